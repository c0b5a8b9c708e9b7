// Rebuilds blocks of the shape of `terraform providers schema -json` from the npm package @cdktn/provider-aws, whose
// classes are generated from the real provider's schema. See README.md for how it is run.
const fs = require("node:fs");

// Whatever the module makes.
const MODULE = `${__dirname}/../../../deployment/image_repository/terraform`;
const RESOURCES = fs
  .readdirSync(MODULE)
  .filter((file) => file.endsWith(".tf"))
  .flatMap((file) => [...fs.readFileSync(`${MODULE}/${file}`, "utf8").matchAll(/^resource "(\w+)"/gm)])
  .map(([, type]) => type);
const DATA_SOURCES = [
  "aws_caller_identity",
  "aws_iam_role",
  "aws_iam_session_context",
  "aws_partition",
  "aws_region",
];
// terraform's own arguments of a provider block; the provider's schema does not have them.
const META_ARGUMENTS = ["alias"];

const STORAGE = { string: "string", number: "number", boolean: "bool" };
const GETTERS = {
  getStringAttribute: "string",
  getNumberAttribute: "number",
  getBooleanAttribute: "bool",
  getStringMapAttribute: ["map", "string"],
  getBooleanMapAttribute: ["map", "bool"],
  getListAttribute: ["list", "string"],
  getNumberListAttribute: ["list", "number"],
};

const root = process.argv[2];

// The generated TypeScript rides in the source map at the end of each compiled file.
function source(folder) {
  const js = fs.readFileSync(`${root}/lib/${folder}/index.js`, "utf8");
  const map = js.match(/sourceMappingURL=data:application\/json;base64,(\S+)/)[1];
  return JSON.parse(Buffer.from(map, "base64")).sourcesContent[0];
}

// The class, interface or function called `name`, from its first line to the brace that ends it.
function definition(text, kind, name) {
  const start = text.search(new RegExp(`^export ${kind} ${name}\\b`, "m"));
  return start < 0 ? "" : text.slice(start, text.indexOf("\n}\n", start));
}

// What a configuration may set: name -> {block, type}. Only these lists tell a set from a list.
function configured(text) {
  const entry = /^ +(\w+): \{\n +value: .*\n +isBlock: (\w+),\n +type: "(\w+)",\n +storageClassType: "(\w+)"/gm;
  const entries = [...text.matchAll(entry)].map(([, name, block, kind, storage]) => {
    const element = STORAGE[storage.replace(/(List|Map)$/, "")];
    const type = kind === "simple" ? STORAGE[storage] : [kind, element];
    return [name, { block: block === "true", kind, type, storage }];
  });
  return Object.fromEntries(entries);
}

function attribute(type, flags) {
  if (!type || (Array.isArray(type) && !type[1])) throw new Error(`an attribute of ${flags.join()} has no type`);
  return { type, ...Object.fromEntries(flags.map((flag) => [flag, true])) };
}

function flagsOf(computed, optional, required) {
  const all = { computed, optional, required };
  return Object.keys(all).filter((flag) => all[flag] === "true");
}

function withoutEmpty(block) {
  return Object.fromEntries(Object.entries(block).filter(([, entries]) => Object.keys(entries).length > 0));
}

// A resource's, data source's or nested block's own class.
function classBlock(text, className) {
  const body = definition(text, "class", className);
  const type = className.replace(/OutputReference$/, "");
  const function_ = `${type[0].toLowerCase()}${type.slice(1)}ToHclTerraform`;
  const inputs = configured(body.includes("synthesizeHclAttributes") ? body : definition(text, "function", function_));
  const block = { attributes: {}, block_types: {} };
  const member = /\/\/ (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n([^]*?)(?=\/\/ \w+ - computed:|\/\/ =+\n|$)/g;
  for (const [, name, computed, optional, required, rest] of body.matchAll(member)) {
    const flags = flagsOf(computed, optional, required);
    const nested = rest.match(/= new (\w+?)(OutputReference|List)\(this, "\w+"(?:, (true|false))?\)/);
    if (nested && inputs[name]?.block) {
      const mode = inputs[name].kind === "struct" ? "single" : inputs[name].kind;
      const one = mode !== "single" && nested[2] === "OutputReference";
      block.block_types[name] = {
        nesting_mode: mode,
        ...(one && { max_items: 1 }),
        ...(required === "true" && { min_items: 1 }),
        block: classBlock(text, `${nested[1]}OutputReference`),
      };
    } else if (nested) {
      // Objects that only the provider writes are one attribute.
      const fields = classBlock(text, `${nested[1]}OutputReference`).attributes;
      const object = Object.fromEntries(Object.entries(fields).map(([field, value]) => [field, value.type]));
      block.attributes[name] = attribute([nested[3] === "true" ? "set" : "list", ["object", object]], flags);
    } else if (flags.length > 0) {
      const getter = rest.match(/this\.(get\w+Attribute)\(/)?.[1];
      block.attributes[name] = attribute(inputs[name]?.type ?? GETTERS[getter], flags);
    }
  }
  return withoutEmpty(block);
}

// The provider's blocks have no class: their interface says what is required, their function what type it is.
function interfaceBlock(text, type) {
  const required = [...definition(text, "interface", type).matchAll(/readonly (\w+)(\??):/g)]
    .filter(([, , mark]) => mark === "")
    .map(([, name]) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
  const function_ = definition(text, "function", `${type[0].toLowerCase()}${type.slice(1)}ToHclTerraform`);
  const attributes = Object.entries(configured(function_)).map(([name, { type }]) => {
    return [name, attribute(type, [required.includes(name) ? "required" : "optional"])];
  });
  return { attributes: Object.fromEntries(attributes) };
}

function providerBlock() {
  const text = source("provider");
  const block = { attributes: {}, block_types: {} };
  for (const [name, input] of Object.entries(configured(definition(text, "class", "AwsProvider")))) {
    if (META_ARGUMENTS.includes(name)) continue;
    if (input.block) {
      const type = input.storage.replace(/List$/, "");
      block.block_types[name] = { nesting_mode: input.kind, block: interfaceBlock(text, type) };
    } else {
      block.attributes[name] = attribute(input.type, ["optional"]);
    }
  }
  return block;
}

function schemas(names, prefix) {
  const entries = names.map((name) => {
    const text = source(`${prefix}${name.replace(prefix ? "" : "aws_", "").replaceAll("_", "-")}`);
    const className = text.match(/^export class (\w+) extends cdktn\.Terraform(?:Resource|DataSource)/m)[1];
    return [name, { version: 0, block: classBlock(text, className) }];
  });
  return Object.fromEntries(entries);
}

function sorted(value) {
  if (Array.isArray(value) || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

const schema = {
  provider_version: JSON.parse(fs.readFileSync(`${root}/package.json`)).cdktn.provider.version,
  provider: { version: 0, block: providerBlock() },
  resource_schemas: schemas(RESOURCES, ""),
  data_source_schemas: schemas(DATA_SOURCES, "data-"),
};
// One attribute a line: whatever holds no other object.
const text = JSON.stringify(sorted(schema), null, 1).replace(/\{[^{}]*\}/g, (leaf) => leaf.replace(/\s+/g, " "));
process.stdout.write(`${text}\n`);
