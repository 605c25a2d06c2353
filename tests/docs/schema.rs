//! docs/alert.schema.json, and what a record does not hold to of it.

use serde_json::Value as Json;

/// What a value does not hold to of a schema: types, required fields, properties, enums. The schema uses nothing else but
/// annotations, and a test says so.
pub(crate) fn violations(schema: &Json, value: &Json, at: &str) -> Vec<String> {
    const KNOWN: [&str; 9] =
        ["$schema", "title", "description", "type", "required", "properties", "enum", "format", "pattern"];
    let unknown = schema.as_object().unwrap().keys().find(|word| !KNOWN.contains(&word.as_str()));
    assert_eq!(unknown, None, "{at}: this test does not know this word of a schema");
    let kind = match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    };
    let kinds: Vec<&str> = match &schema["type"] {
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    let mut found = Vec::new();
    if !kinds.contains(&kind) {
        found.push(format!("{at} is {kind}"));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        found.push(format!("{at} is {value}"));
    }
    if let Json::Object(fields) = value {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str);
        found.extend(required.filter(|name| !fields.contains_key(*name)).map(|name| format!("{at}.{name} is missing")));
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let value = fields.get(name).into_iter();
            found.extend(value.flat_map(|value| violations(property, value, &format!("{at}.{name}"))));
        }
    }
    found
}

/// The schema of an alert record.
pub(crate) fn schema() -> Json {
    serde_json::from_str(include_str!("../../docs/alert.schema.json")).unwrap()
}
