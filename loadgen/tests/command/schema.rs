//! Just enough of JSON Schema to hold a result against `schema.json`: type, const, enum,
//! required, properties, additionalProperties, items and local references.

use serde_json::Value;

/// Every place where `value` is not what `schema` says, as `path: fault`.
pub(crate) fn faults(root: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(root, root, value, "$", &mut faults);
    faults
}

fn check(root: &Value, schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        let target = root.pointer(pointer).expect("the schema's references resolve");
        return check(root, target, value, path, faults);
    }
    let mut fault = |what: String| faults.push(format!("{path}: {what}"));
    if let Some(constant) = schema.get("const").filter(|constant| *constant != value) {
        fault(format!("{value} is not {constant}"));
    }
    if let Some(known) = schema["enum"].as_array().filter(|known| !known.contains(value)) {
        fault(format!("{value} is not one of {known:?}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(some) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|name| is(value, name)) {
        fault(format!("{value} is not of type {types:?}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().expect("names are text");
        if value.get(name).is_none() {
            fault(format!("{name} is missing"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => check(root, schema, inner, &format!("{path}.{name}"), faults),
            None if schema["additionalProperties"] == false => {
                faults.push(format!("{path}: {name} is unknown"));
            }
            None => {}
        }
    }
    for (at, inner) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(schema) = schema.get("items") {
            check(root, schema, inner, &format!("{path}[{at}]"), faults);
        }
    }
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        _ => panic!("the schema uses the type {name:?}, which this check does not know"),
    }
}
