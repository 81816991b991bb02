//! Just enough of JSON Schema to hold a result against `loadgen/schemas`: type, const, enum,
//! required, properties, additionalProperties, items and references within a file or to another.

use serde_json::Value;

/// The schemas by their names in references.
const FILES: [(&str, &str); 5] = [
    ("run.json", include_str!("../../schemas/run.json")),
    ("series.json", include_str!("../../schemas/series.json")),
    ("scenario.json", include_str!("../../schemas/scenario.json")),
    ("search.json", include_str!("../../schemas/search.json")),
    ("comparison.json", include_str!("../../schemas/comparison.json")),
];

fn file(name: &str) -> Value {
    let found = FILES.iter().find(|(known, _)| *known == name);
    let (_, text) = found.unwrap_or_else(|| panic!("there is no schema {name}"));
    serde_json::from_str(text).expect("it is JSON")
}

/// Fails unless `value` is as the schema in the file `name` says.
#[track_caller]
pub(crate) fn keeps_to(name: &str, value: &Value) {
    let schema = file(name);
    let mut faults = Vec::new();
    check(&schema, &schema, value, "$", &mut faults);
    assert!(faults.is_empty(), "{name}: {faults:#?}");
}

fn check(root: &Value, schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let (other, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let other = (!other.is_empty()).then(|| file(other));
        let root = other.as_ref().unwrap_or(root);
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
    let required = schema["required"].as_array().filter(|_| value.is_object());
    for name in required.into_iter().flatten() {
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

#[test]
fn faults_are_found() {
    let whole = serde_json::json!({
        "schema": "postring-loadgen-comparison/1", "addresses": ["a", "b"], "pairs": 3,
        "level": "VALID", "error_max": 0.05, "figures": []
    });
    let schema = file("comparison.json");
    let faults_of = |value: &Value| {
        let mut faults = Vec::new();
        check(&schema, &schema, value, "$", &mut faults);
        faults
    };
    assert_eq!(faults_of(&whole), Vec::<String>::new());
    let wrong = [
        ("level", "GOOD".into(), "is not one of"),
        ("pairs", 2.5.into(), "not of type"),
        ("figures", serde_json::json!([{ "class": "all" }]), "shown is missing"),
        ("more", Value::Null, "more is unknown"),
    ];
    for (name, value, fault) in wrong {
        let mut broken = whole.clone();
        broken[name] = value;
        let found = faults_of(&broken);
        assert!(found.iter().any(|found| found.contains(fault)), "{name}: {found:?}");
    }
}
