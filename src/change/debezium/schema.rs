//! The schema that JsonConverter puts beside the payload (`schemas.enable=true`), as far as encodings need it.

use serde::Deserialize;

use super::columns::Columns;
use super::value::{Described, Form};

/// A schema of Kafka Connect's as JSON; all else in it is skipped.
#[derive(Deserialize)]
struct Schema {
    fields: Option<Vec<Field>>,
}

#[derive(Deserialize)]
struct Field {
    field: Option<String>,
    #[serde(rename = "type")]
    ty: Option<String>,
    name: Option<String>,
    parameters: Option<Parameters>,
    fields: Option<Vec<Field>>,
}

#[derive(Deserialize)]
struct Parameters {
    scale: Option<String>,
}

/// The forms of all slots in records with this schema of an envelope. Columns that it does not describe keep the form
/// of records without schema.
pub(super) fn of_envelope(json: &str, columns: &Columns, plain: &[Form]) -> serde_json::Result<Vec<Form>> {
    let fields = serde_json::from_str::<Schema>(json)?.fields.unwrap_or_default();
    let image = |name| fields.iter().find(|field| field.field.as_deref() == Some(name));
    let described = image("after").or_else(|| image("before")).and_then(|image| image.fields.as_deref());
    Ok(apply(described.unwrap_or_default(), columns, plain))
}

/// The same for the schema of a record's key.
pub(super) fn of_key(json: &str, columns: &Columns, plain: &[Form]) -> serde_json::Result<Vec<Form>> {
    let fields = serde_json::from_str::<Schema>(json)?.fields.unwrap_or_default();
    Ok(apply(&fields, columns, plain))
}

fn apply(fields: &[Field], columns: &Columns, plain: &[Form]) -> Vec<Form> {
    let mut forms = plain.to_vec();
    for field in fields {
        let slot = field.field.as_deref().and_then(|name| columns.slot(name));
        let Some(form) = slot.and_then(|slot| forms.get_mut(slot)) else {
            continue;
        };
        *form = form.described(Described {
            ty: field.ty.as_deref().unwrap_or_default(),
            name: field.name.as_deref(),
            scale: field.parameters.as_ref().and_then(|parameters| parameters.scale.as_deref()),
        });
    }
    forms
}
