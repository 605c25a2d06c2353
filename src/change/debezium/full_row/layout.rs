//! Which columns a record has, of which types, and how each is written.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::value::Form;
use super::{Declared, FullRowTable};
use crate::change::debezium::value::Placeholder;
use crate::change::debezium::{Settings, schema};
use crate::change::full_row::{Cell, Field, FieldType};
use crate::change::{Reject, RejectKind};

/// The columns of a record.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) fields: Arc<[Field]>,
    /// One per field.
    forms: Vec<Form>,
    /// The primary key's fields, where the catalog tells.
    pub(super) key: Vec<usize>,
    /// Whether the records describe their columns themselves, so that the catalog has no more of them to tell.
    pub(super) described: bool,
    /// How many of the fields the table still has; those after them were dropped.
    present: usize,
    /// What stands for a value that is not in the change.
    placeholder: Arc<Placeholder>,
}

impl Layout {
    /// Of records without schema.
    pub(super) fn of_table(table: &FullRowTable, settings: Settings) -> Self {
        let fields = table.fields.iter().map(|column| column.field.clone()).collect();
        let forms = table.fields.iter().map(|column| Form::of_catalog(column, settings)).collect();
        let key = table.primary_key.iter().copied().filter(|&at| at < table.fields.len()).collect();
        let present = table.fields.len();
        Self { fields, forms, key, described: false, present, placeholder: Arc::default() }
    }

    /// Of records that describe their columns so. Types are those of the catalog where it has the column.
    pub(super) fn of_schema(
        described: &[schema::Field],
        table: Option<&FullRowTable>,
        placeholder: &Arc<Placeholder>,
    ) -> Self {
        let (mut fields, mut forms): (Vec<Field>, Vec<Form>) = (Vec::new(), Vec::new());
        for found in described {
            let Some(name) = found.field.as_ref().filter(|name| fields.iter().all(|field| field.name != **name)) else {
                continue;
            };
            let known = table.and_then(|table| table.fields.iter().find(|column| column.field.name == *name));
            let (ty, form) = match known {
                Some(column) => Form::described(column.field.ty, column.declared, found),
                None => Form::of_schema(found),
            };
            fields.push(Field { name: name.clone(), ty });
            forms.push(form);
        }
        let key = table.map(|table| {
            let name = |&at: &usize| table.fields.get(at).map(|column| column.field.name.as_str());
            let slot = |name: &str| fields.iter().position(|field| field.name == name);
            table.primary_key.iter().map(|at| slot(name(at)?)).collect::<Option<Vec<usize>>>()
        });
        let (key, present) = (key.flatten().unwrap_or_default(), fields.len());
        Self { fields: fields.into(), forms, key, described: true, present, placeholder: Arc::clone(placeholder) }
    }

    /// The same with another placeholder.
    pub(super) fn with_placeholder(&self, placeholder: &Arc<Placeholder>) -> Self {
        Self { placeholder: Arc::clone(placeholder), ..self.clone() }
    }

    /// Uses the list of fields of another layout where it is equal.
    pub(super) fn keep(&mut self, other: &Self) {
        if self.fields == other.fields {
            self.fields = Arc::clone(&other.fields);
        }
    }

    /// The same, with these columns after the others, as text.
    pub(super) fn with_texts(&self, names: &[String]) -> Self {
        let texts = names.iter().map(|name| Field { name: name.clone(), ty: FieldType::Text });
        let mut forms = self.forms.clone();
        forms.resize(self.forms.len().saturating_add(names.len()), Form::of_type(FieldType::Text, Declared::Plain));
        let fields = self.fields.iter().cloned().chain(texts).collect();
        Self { fields, forms, ..self.clone() }
    }

    /// The same without the table's columns that a record does not have; `None` where it has all of them.
    pub(super) fn without<T>(&self, values: &[Option<T>]) -> Option<Self> {
        let is_kept = |slot: usize| slot >= self.present || values.get(slot).is_none_or(Option::is_some);
        if (0..self.present).all(is_kept) {
            return None;
        }
        let kept: Vec<usize> = (0..self.fields.len()).filter(|slot| is_kept(*slot)).collect();
        let fields = kept.iter().filter_map(|slot| self.fields.get(*slot).cloned()).collect();
        let forms = kept.iter().filter_map(|slot| self.forms.get(*slot).cloned()).collect();
        let place = |slot: &usize| kept.iter().position(|kept| kept == slot);
        let key = self.key.iter().map(place).collect::<Option<Vec<usize>>>().unwrap_or_default();
        let present = kept.iter().filter(|slot| **slot < self.present).count();
        Some(Self { fields, forms, key, present, ..self.clone() })
    }

    /// The place of the column of this name. `next` is where it is expected: after the one before it.
    pub(super) fn find(&self, name: &str, next: &mut usize) -> Option<usize> {
        let slot = match self.fields.get(*next) {
            Some(field) if field.name == name => *next,
            _ => self.fields.iter().position(|field| field.name == name)?,
        };
        *next = slot.saturating_add(1);
        Some(slot)
    }

    /// A row of nothing.
    pub(super) fn nulls(&self) -> Box<[Cell]> {
        self.fields.iter().map(|_| Cell::Null).collect()
    }

    /// Reads all values. `place` names the image in a reject of this kind.
    pub(super) fn cells(
        &self,
        values: &[Option<&RawValue>],
        place: &str,
        kind: RejectKind,
    ) -> Result<Box<[Cell]>, Reject> {
        values.iter().enumerate().map(|(slot, value)| self.cell(slot, *value, place, kind.clone())).collect()
    }

    /// Reads these values only.
    pub(super) fn some_cells(
        &self,
        slots: &[usize],
        values: &[Option<&RawValue>],
        place: &str,
    ) -> Result<Box<[Cell]>, Reject> {
        let mut cells = self.nulls();
        for &slot in slots {
            if let (Some(cell), Some(value)) = (cells.get_mut(slot), values.get(slot)) {
                *cell = self.cell(slot, *value, place, RejectKind::Value)?;
            }
        }
        Ok(cells)
    }

    /// A deleted row, if no column of its primary key is null.
    pub(super) fn identified(&self, row: Box<[Cell]>) -> Result<Box<[Cell]>, Reject> {
        if self.key.iter().any(|&slot| row.get(slot) == Some(&Cell::Null)) {
            let detail = "a delete whose primary key has a null, which identifies no row; is this topic Debezium's?";
            return Err(Reject { kind: RejectKind::Key, detail: detail.to_owned() });
        }
        Ok(row)
    }

    /// Reads one value.
    pub(super) fn cell(
        &self,
        slot: usize,
        value: Option<&RawValue>,
        place: &str,
        kind: RejectKind,
    ) -> Result<Cell, Reject> {
        let (Some(value), Some(form), Some(field)) = (value, self.forms.get(slot), self.fields.get(slot)) else {
            return Ok(Cell::Null);
        };
        form.read(value.get(), &self.placeholder)
            .map_err(|why| Reject { kind, detail: format!("column {:?} of {place}: {why}", field.name) })
    }
}
