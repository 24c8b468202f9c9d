// Holds each entity of a JSON list to Backstage's own policies and to the schema of its kind; prints what does not fit.
import fs from "node:fs";
import * as model from "@backstage/catalog-model";

const policies = [
  new model.SchemaValidEntityPolicy(),
  new model.FieldFormatEntityPolicy(),
  new model.NoForeignRootFieldsEntityPolicy(),
];
const kinds = {
  API: model.apiEntityV1alpha1Validator,
  Component: model.componentEntityV1alpha1Validator,
  System: model.systemEntityV1alpha1Validator,
};
for (const entity of JSON.parse(fs.readFileSync(process.argv[2], "utf8"))) {
  try {
    for (const policy of policies) await policy.enforce(entity);
    if (!(await kinds[entity.kind].check(entity))) throw new Error("it is of no kind");
  } catch (error) {
    console.log(`${entity.metadata.name}: ${error.message}`);
  }
}
