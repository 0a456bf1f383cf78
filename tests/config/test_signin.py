"""What may stand in the settings of signing in by others, and what is never shown of them."""

from __future__ import annotations

import pytest

from config import ConfigError
from config.origins import MASK, effective
from config.settings import Settings

OIDC = '[web.oidc]\nissuer = "https://id.example"\nclient_id = "cxr"\n'
LDAP = '[web.ldap]\nurl = "ldaps://dc.example"\nbase = "dc=example"\n'
SECRET = 'client_secret = "very-much-hidden"\n'


def test_secrets_are_masked_where_settings_are_shown_and_left_out_of_their_words(load):
    bound = LDAP + 'bind_dn = "cn=reader"\nbind_password = "also-hidden"\n'
    settings: Settings = load(OIDC + SECRET + bound)
    shown = {row.key: row for row in effective(settings)}
    for key in ("web.oidc.client_secret", "web.ldap.bind_password"):
        assert MASK in shown[key].value
        assert shown[key].masked
    said = repr(settings) + str([row.value for row in shown.values()])
    assert "hidden" not in said
    assert settings.web.oidc is not None
    assert settings.web.oidc.secret == "very-much-hidden"


@pytest.mark.parametrize(
    ("section", "key"), [(OIDC, "client_secret"), (LDAP + 'bind_dn = "cn=reader"\n', "bind_password")]
)
def test_a_secret_of_the_wrong_kind_is_not_repeated(load, section, key):
    with pytest.raises(ConfigError) as refused:
        load(f"{section}{key} = 4711")
    assert key in str(refused.value)
    assert "4711" not in str(refused.value)


def test_a_secret_may_lie_in_a_file_of_its_own(load, folder):
    (folder / "secret").write_text("from-a-file\n")
    settings: Settings = load(OIDC + 'client_secret_file = "secret"\n')
    assert settings.web.oidc.secret == "from-a-file"
    (folder / "secret").write_text("\n")
    with pytest.raises(OSError, match="empty"):
        _ = settings.web.oidc.secret
    settings = load(LDAP + 'bind_dn = "cn=reader"\nbind_password_file = "secret"\n')
    (folder / "secret").write_text("renewed")
    assert settings.web.ldap.password == "renewed"
    assert load(LDAP).web.ldap.password == ""


def test_openid_is_always_asked_for(load):
    assert load(OIDC + SECRET + 'scopes = ["email"]\n').web.oidc.scopes == ("openid", "email")


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (OIDC.replace("https", "http") + SECRET, "expected https://HOST/PATH"),
        (OIDC.replace("id.example", "id.example?x=1") + SECRET, "expected https://HOST/PATH"),
        (OIDC, "client_secret or client_secret_file"),
        (OIDC + SECRET + 'default_role = "admin"\n', "default_role"),
        (LDAP.replace("ldaps", "ldap"), "passwords would travel in the clear"),
        (LDAP + "start_tls = true\n", "encrypted from the start"),
        (LDAP.replace("dc.example", "dc.example/dc=x"), "expected nothing after the host and port"),
        (LDAP.replace("ldaps:", "https:"), "expected ldaps://HOST or ldap://HOST"),
        (LDAP + 'bind_dn = "cn=reader"\n', "bind_password"),
        (LDAP + 'bind_password = "lonely"\n', "bind_password"),
        (LDAP + 'user_filter = "(uid=anna)"\n', "user_filter"),
        (LDAP + 'ca = "nowhere.pem"\n', "expected a file that exists"),
        ("[web]\npassword_min_length = 7\n", "password_min_length"),
    ],
)
def test_what_would_let_others_listen_or_in_is_refused(load, toml, message):
    with pytest.raises(ConfigError) as refused:
        load(toml)
    assert message in str(refused.value)
    assert "very-much-hidden" not in str(refused.value)


@pytest.mark.parametrize("url", ["ldap://127.0.0.1:1389", "ldap://localhost", "ldap://[::1]"])
def test_a_directory_on_this_machine_needs_no_encryption(load, url):
    assert load(LDAP.replace("ldaps://dc.example", url)).web.ldap.url == url


def test_a_directory_elsewhere_may_be_reached_by_start_tls(load):
    assert load(LDAP.replace("ldaps", "ldap") + "start_tls = true\n").web.ldap.start_tls
