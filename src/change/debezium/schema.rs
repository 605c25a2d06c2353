//! The schema that JsonConverter puts beside the payload (`schemas.enable=true`), as far as encodings need it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::columns::Columns;
use super::rejects::reject;
use super::value::{Described, Form};
use crate::change::{Reject, RejectKind};

/// Kafka Connect's schema as JSON. All other fields are skipped.
#[derive(Deserialize)]
struct Schema {
    fields: Option<Vec<Field>>,
}

#[derive(Deserialize)]
pub(super) struct Field {
    pub(super) field: Option<String>,
    #[serde(rename = "type")]
    ty: Option<String>,
    name: Option<String>,
    parameters: Option<Parameters>,
    fields: Option<Vec<Field>>,
}

#[derive(Deserialize)]
struct Parameters {
    scale: Option<String>,
    #[serde(rename = "connect.decimal.precision")]
    precision: Option<String>,
}

impl Field {
    pub(super) fn described(&self) -> Described<'_> {
        Described {
            ty: self.ty.as_deref().unwrap_or_default(),
            name: self.name.as_deref(),
            scale: self.parameters.as_ref().and_then(|parameters| parameters.scale.as_deref()),
        }
    }

    /// The digits of a decimal, if the schema has them.
    pub(super) fn precision(&self) -> Option<u8> {
        self.parameters.as_ref()?.precision.as_ref()?.parse().ok()
    }
}

/// The schema around a payload. `None` for null, which JsonConverter writes without a schema.
pub(super) fn text_of(schema: Option<&RawValue>) -> Result<Option<&str>, Reject> {
    match schema.map(RawValue::get) {
        None | Some("null") => Ok(None),
        Some(schema) if schema.starts_with('{') => Ok(Some(schema)),
        Some(_) => Err(reject(
            RejectKind::Envelope,
            "the record's schema is neither an object nor null; set JsonConverter as the connector's converter",
        )),
    }
}

/// The forms of all slots in records with this schema, of an envelope or of a row. Columns that the schema does not
/// describe keep the form of records without a schema.
pub(super) fn of_value(json: &str, columns: &Columns, plain: &[Form]) -> serde_json::Result<Vec<Form>> {
    let described = match of_images(json)? {
        Some(images) => images,
        None => of_struct(json)?,
    };
    Ok(apply(&described, columns, plain))
}

/// The forms of all slots by the schema of a record's key.
pub(super) fn of_key(json: &str, columns: &Columns, plain: &[Form]) -> serde_json::Result<Vec<Form>> {
    Ok(apply(&of_struct(json)?, columns, plain))
}

/// The fields of an envelope's images by its schema. `None`: the schema describes no image.
pub(super) fn of_images(json: &str) -> serde_json::Result<Option<Vec<Field>>> {
    let mut fields = of_struct(json)?;
    let mut image = |name| fields.iter_mut().find(|field| field.field.as_deref() == Some(name))?.fields.take();
    Ok(image("after").or_else(|| image("before")))
}

/// The fields of a struct by its schema.
pub(super) fn of_struct(json: &str) -> serde_json::Result<Vec<Field>> {
    Ok(serde_json::from_str::<Schema>(json)?.fields.unwrap_or_default())
}

fn apply(fields: &[Field], columns: &Columns, plain: &[Form]) -> Vec<Form> {
    let mut forms = plain.to_vec();
    for field in fields {
        let slot = field.field.as_deref().and_then(|name| columns.slot(name));
        let Some(form) = slot.and_then(|slot| forms.get_mut(slot)) else {
            continue;
        };
        *form = form.described(field.described());
    }
    forms
}
