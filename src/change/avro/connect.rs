//! Reads Kafka Connect's types from an Avro schema, by the conventions of Confluent's AvroData, which Apicurio's
//! converter shares: `connect.name`, `connect.parameters`, `connect.type`, and a union with null for an optional value.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

/// The greatest nesting of a schema.
const DEPTH_MAX: usize = 64;
/// The greatest size in bytes of the types that a schema repeats by name. Types of types would double with each level.
const REPEATED_MAX: usize = 8 << 20;

/// Converts to Kafka Connect's schema, as JsonConverter writes it: types, names, and the parameters of decimals.
pub(super) fn of_avro(schema: &Json) -> Result<Json, String> {
    schema_of(schema, &mut Named { types: HashMap::new(), left: REPEATED_MAX }, "", 0)
}

/// Removes the annotations by which a reader interprets values, because it rejects some of them: a negative scale, for
/// example.
pub(super) fn without_logical_types(schema: &mut Json) {
    match schema {
        Json::Object(object) => {
            for name in ["logicalType", "precision", "scale"] {
                object.remove(name);
            }
            object.values_mut().for_each(without_logical_types);
        }
        Json::Array(items) => items.iter_mut().for_each(without_logical_types),
        _ => {}
    }
}

/// The named types that have been defined so far.
struct Named {
    /// The types by name, with their sizes in bytes. `None` while a type is being read.
    types: HashMap<String, Option<(Json, usize)>>,
    /// The bytes that may still be repeated.
    left: usize,
}

impl Named {
    /// Returns the type of this name again.
    fn again(&mut self, namespace: &str, name: &str) -> Result<Json, String> {
        let full = format!("{namespace}.{name}");
        let known = if self.types.contains_key(&full) { self.types.get(&full) } else { self.types.get(name) };
        match known {
            None => Err("the schema names a type that it does not define".to_owned()),
            Some(None) => {
                Err("the schema has a type that contains itself, which no table of Postgres's needs".to_owned())
            }
            Some(Some((found, bytes))) => {
                let left = self.left.checked_sub(*bytes);
                self.left = left
                    .ok_or_else(|| format!("the schema repeats its types to more than {} MiB", REPEATED_MAX >> 20))?;
                Ok(found.clone())
            }
        }
    }
}

fn schema_of(schema: &Json, named: &mut Named, namespace: &str, depth: usize) -> Result<Json, String> {
    if depth > DEPTH_MAX {
        return Err("the schema nests too deep".to_owned());
    }
    match schema {
        Json::String(name) => simple(name, &Map::new(), named, namespace),
        Json::Array(branches) => {
            let is_null = |branch: &&Json| branch.as_str() == Some("null");
            let mut others = branches.iter().filter(|branch| !is_null(branch));
            let (Some(first), None) = (others.next(), others.next()) else {
                return Ok(json!({ "type": "struct", "optional": true }));
            };
            let mut found = schema_of(first, named, namespace, depth + 1)?;
            if branches.iter().any(|branch| is_null(&branch)) {
                set(&mut found, "optional", Json::Bool(true));
            }
            Ok(found)
        }
        Json::Object(object) => match object.get("type") {
            Some(Json::String(ty)) => complex(ty, object, named, namespace, depth),
            Some(inner) => schema_of(inner, named, namespace, depth + 1),
            None => Err("a type is missing in the schema".to_owned()),
        },
        _ => Err("a type of the schema is no text, list or object".to_owned()),
    }
}

fn complex(
    ty: &str,
    object: &Map<String, Json>,
    named: &mut Named,
    namespace: &str,
    depth: usize,
) -> Result<Json, String> {
    let own = object.get("namespace").and_then(Json::as_str).unwrap_or(namespace);
    let name = object.get("name").and_then(Json::as_str).unwrap_or_default();
    let (full, own) = match name.rsplit_once('.') {
        Some((before, _)) => (name.to_owned(), before),
        None if own.is_empty() => (name.to_owned(), own),
        None => (format!("{own}.{name}"), own),
    };
    let is_named = matches!(ty, "record" | "enum" | "fixed");
    if is_named {
        named.types.insert(full.clone(), None);
    }
    let mut found = match ty {
        "record" => {
            let mut fields = Vec::new();
            for field in object.get("fields").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default() {
                let name = field.get("name").and_then(Json::as_str).ok_or("a field of the schema has no name")?;
                let ty = field.get("type").ok_or("a field of the schema has no type")?;
                let mut found = schema_of(ty, named, own, depth + 1)?;
                set(&mut found, "field", Json::from(name));
                fields.push(found);
            }
            json!({ "type": "struct", "fields": fields })
        }
        "enum" => json!({ "type": "string" }),
        "fixed" => json!({ "type": "bytes" }),
        "array" => json!({ "type": "array" }),
        "map" => json!({ "type": "map" }),
        other => return simple(other, object, named, namespace),
    };
    annotate(&mut found, object);
    if is_named {
        let bytes = found.to_string().len();
        named.types.insert(full, Some((found.clone(), bytes)));
    }
    Ok(found)
}

/// A primitive type, or the name of a type that was defined before.
fn simple(ty: &str, object: &Map<String, Json>, named: &mut Named, namespace: &str) -> Result<Json, String> {
    let connect = object.get("connect.type").and_then(Json::as_str);
    let found = match ty {
        "int" => connect.unwrap_or("int32"),
        "long" => "int64",
        "boolean" => "boolean",
        "float" => "float",
        "double" => "double",
        "string" => "string",
        "bytes" => "bytes",
        "null" => "string",
        name => return named.again(namespace, name),
    };
    let mut found = json!({ "type": found });
    annotate(&mut found, object);
    Ok(found)
}

/// Adds the name and the parameters of a logical type.
fn annotate(found: &mut Json, object: &Map<String, Json>) {
    let text = |name: &str| object.get(name).and_then(Json::as_str);
    let name = text("connect.name").or(match text("logicalType") {
        Some("decimal") => Some("org.apache.kafka.connect.data.Decimal"),
        Some("date") => Some("org.apache.kafka.connect.data.Date"),
        Some("time-millis") => Some("org.apache.kafka.connect.data.Time"),
        Some("timestamp-millis") => Some("org.apache.kafka.connect.data.Timestamp"),
        _ => None,
    });
    if let Some(name) = name {
        set(found, "name", Json::from(name));
    }
    let mut parameters = object.get("connect.parameters").and_then(Json::as_object).cloned().unwrap_or_default();
    // Where Kafka Connect's schema has a scale and no precision, the converter has made the precision up: Avro has to have one.
    let is_described = parameters.contains_key("scale");
    for (own, connect) in [("scale", "scale"), ("precision", "connect.decimal.precision")] {
        if let Some(number) = object.get(own).filter(|_| !is_described) {
            parameters.insert(connect.to_owned(), Json::from(number.to_string()));
        }
    }
    if !parameters.is_empty() {
        set(found, "parameters", Json::Object(parameters));
    }
}

fn set(of: &mut Json, name: &str, value: Json) {
    if let Json::Object(object) = of {
        object.insert(name.to_owned(), value);
    }
}
