"""The state of the node: models, migrations, the job queue, the object store and the intake."""
