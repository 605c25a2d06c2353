//! What a value does not hold to of a JSON schema; docs/alert.schema.json.

use serde_json::Value as Json;

/// What a value does not hold to of a schema. The schemas use no other words than these and annotations, and a test says so.
pub(crate) fn violations(schema: &Json, value: &Json, at: &str) -> Vec<String> {
    const CHECKED: [&str; 9] =
        ["type", "required", "properties", "additionalProperties", "enum", "items", "minimum", "maximum", "minLength"];
    const ANNOTATIONS: [&str; 8] =
        ["$schema", "title", "description", "format", "pattern", "default", "examples", "x-required"];
    let unknown = schema.as_object().unwrap().keys().find(|word| {
        let is_known = CHECKED.contains(&word.as_str()) || ANNOTATIONS.contains(&word.as_str());
        !is_known && *word != "anyOf" && *word != "minItems"
    });
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
    let is_kind = kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number");
    if !kinds.is_empty() && !is_kind {
        found.push(format!("{at} is {kind}"));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        found.push(format!("{at} is {value}"));
    }
    let bound = |name: &str| schema[name].as_f64();
    if let Some(number) = value.as_f64()
        && (bound("minimum").is_some_and(|least| number < least) || bound("maximum").is_some_and(|most| number > most))
    {
        found.push(format!("{at} is {value}"));
    }
    let least = |name: &str| schema[name].as_u64().and_then(|least| usize::try_from(least).ok()).unwrap_or(0);
    if value.as_str().is_some_and(|text| text.chars().count() < least("minLength"))
        || value.as_array().is_some_and(|items| items.len() < least("minItems"))
    {
        found.push(format!("{at} is too short"));
    }
    if let (Json::Array(items), Some(of)) = (value, schema.get("items")) {
        let each = items.iter().enumerate();
        found.extend(each.flat_map(|(index, item)| violations(of, item, &format!("{at}[{index}]"))));
    }
    if let Some(ways) = schema["anyOf"].as_array()
        && ways.iter().all(|way| !violations(way, value, at).is_empty())
    {
        found.push(format!("{at} is none of {}", schema["anyOf"]));
    }
    if let Json::Object(fields) = value {
        let others = fields.iter().filter(|(name, _)| schema["properties"].get(*name).is_none());
        for (name, other) in others {
            match &schema["additionalProperties"] {
                Json::Bool(false) => found.push(format!("{at}.{name} is unknown")),
                Json::Object(_) => {
                    found.extend(violations(&schema["additionalProperties"], other, &format!("{at}.{name}")));
                }
                _ => {}
            }
        }
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
