"""What a manifest is exported as, without a file or a command line."""

from __future__ import annotations

from cyborg_infra.core.desired.expand import expand_unchecked
from cyborg_infra.core.desired.naming import list_subjects
from cyborg_infra.core.desired.settings import admitted
from cyborg_infra.export.exported import Export, ExportInput
from cyborg_infra.export.formats import FORMATS
from cyborg_infra.manifest import schema
from cyborg_infra.manifest.load import loads
from cyborg_infra.manifest.messages import schema_of
from cyborg_infra.model.messages import MessageKind
from cyborg_infra.model.organisation import Org


def input_of(name: str, org: Org, **settings: str) -> ExportInput:
    """Return what the format of this name is given."""
    state = expand_unchecked(org)
    schemas = {kind.value: schema.read_schema(schema_of(kind)) for kind in MessageKind}
    defaults = {word: setting.default for word, setting in FORMATS[name].settings.items()}
    alerts = org.alerts._replace(admitted=admitted(state.streams()))
    return ExportInput(org, list_subjects(org, state), state, alerts, schemas, defaults | settings)


def exported(name: str, manifest: str, **settings: str) -> Export:
    """Return the files of the format."""
    return FORMATS[name].write(input_of(name, loads(manifest, offline=True), **settings))
