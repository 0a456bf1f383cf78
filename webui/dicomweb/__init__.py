"""DICOMweb over sources and results (PS3.18): STOW-RS into the common intake, QIDO-RS, WADO-RS.

Objects are handed out as they are stored; pixels of others are never decoded here. Results that wait for
release or were taken back are not shown.
"""

from __future__ import annotations

from flask import Blueprint

from webui.dicomweb import capabilities, frames, metadata, rendered, retrieve, search, store

blueprint = Blueprint("dicomweb", __name__, url_prefix="/dicomweb")
for part in (capabilities, store, search, retrieve, metadata, frames, rendered):
    blueprint.register_blueprint(part.blueprint)
