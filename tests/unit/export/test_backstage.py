"""The entities of a Backstage catalogue."""

from __future__ import annotations

import yaml

from tests.support.exports import exported

MANIFEST = "org: acme\nroles: {ceo: {description: Leads}, cto: {reports_to: ceo}}\n"


def test_the_organisation_is_a_system_its_roles_are_components_and_the_document_is_an_api() -> None:
    made = exported("backstage", MANIFEST, owner="group:platform")
    found = {each["metadata"]["name"]: each for each in yaml.safe_load_all(made.files["catalog-info.yaml"])}
    assert [each["kind"] for each in found.values()] == ["System", "API", "Component", "Component"]
    assert {each["spec"]["owner"] for each in found.values()} == {"group:platform"}
    assert found["acme-ceo"]["metadata"]["description"] == "Leads"
    assert found["acme-cto"]["spec"]["dependsOn"] == ["component:acme-ceo"]
    assert found["acme-cto"]["spec"]["consumesApis"] == ["acme-messaging"]
    document = yaml.safe_load(found["acme-messaging"]["spec"]["definition"])
    assert document["asyncapi"] == "3.0.0"
    assert "cto-receives-tasks" in document["operations"]
