//! The columns of a record, their types and encodings.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::value::Form;
use super::{Declared, FullRowTable};
use crate::change::debezium::adjusted::{AdjustedNames, Meant, either};
use crate::change::debezium::value::Placeholder;
use crate::change::debezium::{Settings, schema};
use crate::change::full_row::{Cell, Field, FieldType};
use crate::change::{Reject, RejectKind};

/// The columns of a record.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) fields: Arc<[Field]>,
    /// The form of each field.
    forms: Vec<Form>,
    /// The fields of the primary key, if the catalog has one.
    pub(super) key: Vec<usize>,
    /// Whether the records bring their schema, so that the catalog is not needed to decode them.
    pub(super) described: bool,
    /// The number of fields that the table still has. The fields after them were dropped.
    present: usize,
    /// The placeholder for a value that is not in the change.
    placeholder: Arc<Placeholder>,
    names: Arc<RecordNames>,
}

/// The names in records for the columns of a table, where they differ from the columns' own.
#[derive(Clone, Debug, Default)]
struct RecordNames {
    own: Vec<String>,
    adjusted: AdjustedNames,
    /// Whether a column's own name may stand for another column.
    is_doubtful: bool,
}

impl RecordNames {
    fn of(table: &FullRowTable) -> Self {
        let own: Vec<&str> = table.fields.iter().map(|column| column.field.name.as_str()).collect();
        let adjusted = AdjustedNames::of(&own);
        let is_doubtful = own.iter().any(|name| adjusted.meant(name).is_some());
        Self { own: own.into_iter().map(str::to_owned).collect(), adjusted, is_doubtful }
    }

    /// The table's name for the column that a record calls by this name. The error says why that is not known.
    fn own<'n>(&'n self, written: &'n str) -> Result<&'n str, String> {
        let name = |at: usize| self.own.get(at).map_or(written, String::as_str);
        match self.adjusted.meant(written) {
            None => Ok(written),
            Some(Meant::One(column)) => Ok(name(*column)),
            Some(Meant::Either(one, two)) => Err(either(written, name(*one), name(*two))),
        }
    }
}

impl Layout {
    /// The layout of records without a schema.
    pub(super) fn of_table(table: &FullRowTable, settings: Settings) -> Self {
        let fields = table.fields.iter().map(|column| column.field.clone()).collect();
        let forms = table.fields.iter().map(|column| Form::of_catalog(column, settings)).collect();
        let key = table.primary_key.iter().copied().filter(|&at| at < table.fields.len()).collect();
        let (present, names) = (table.fields.len(), Arc::new(RecordNames::of(table)));
        Self { fields, forms, key, described: false, present, placeholder: Arc::default(), names }
    }

    /// The layout of records whose schema describes these fields. Names and types are those of the catalog, if it has
    /// the column.
    ///
    /// # Errors
    /// A name may stand for either of two columns.
    pub(super) fn of_schema(
        described: &[schema::Field],
        table: Option<&FullRowTable>,
        placeholder: &Arc<Placeholder>,
    ) -> Result<Self, Reject> {
        let names = table.map(RecordNames::of).unwrap_or_default();
        let (mut fields, mut forms): (Vec<Field>, Vec<Form>) = (Vec::new(), Vec::new());
        for found in described {
            let Some(written) = &found.field else { continue };
            let name = names.own(written).map_err(|detail| Reject { kind: RejectKind::Envelope, detail })?;
            if fields.iter().any(|field| field.name == name) {
                continue;
            }
            let known = table.and_then(|table| table.fields.iter().find(|column| column.field.name == name));
            let (ty, form) = match known {
                Some(column) => Form::described(column.field.ty, column.declared, found),
                None => Form::of_schema(found),
            };
            fields.push(Field { name: name.to_owned(), ty });
            forms.push(form);
        }
        let key = table.map(|table| {
            let name = |&at: &usize| table.fields.get(at).map(|column| column.field.name.as_str());
            let slot = |name: &str| fields.iter().position(|field| field.name == name);
            table.primary_key.iter().map(|at| slot(name(at)?)).collect::<Option<Vec<usize>>>()
        });
        let (key, present) = (key.flatten().unwrap_or_default(), fields.len());
        let (fields, placeholder, names) = (fields.into(), Arc::clone(placeholder), Arc::new(names));
        Ok(Self { fields, forms, key, described: true, present, placeholder, names })
    }

    /// The same layout with another placeholder.
    pub(super) fn with_placeholder(&self, placeholder: &Arc<Placeholder>) -> Self {
        Self { placeholder: Arc::clone(placeholder), ..self.clone() }
    }

    /// Shares the list of fields of another layout if it is equal.
    pub(super) fn keep(&mut self, other: &Self) {
        if self.fields == other.fields {
            self.fields = Arc::clone(&other.fields);
        }
    }

    /// The same layout with these text columns after the others.
    pub(super) fn with_texts(&self, names: &[String]) -> Self {
        let texts = names.iter().map(|name| Field { name: name.clone(), ty: FieldType::Text });
        let mut forms = self.forms.clone();
        forms.resize(self.forms.len().saturating_add(names.len()), Form::of_type(FieldType::Text, Declared::Plain));
        let fields = self.fields.iter().cloned().chain(texts).collect();
        Self { fields, forms, ..self.clone() }
    }

    /// The same layout without the table's columns that a record lacks. `None` if it has all of them.
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

    /// The index of the column that a record calls by this name. `next` is the expected index: that after the previous
    /// column.
    ///
    /// # Errors
    /// A sentence: the name may stand for either of two columns.
    pub(super) fn find_written(&self, name: &str, next: &mut usize) -> Result<Option<usize>, String> {
        if self.fields.get(*next).is_some_and(|field| field.name == name) && !self.names.is_doubtful {
            *next = next.saturating_add(1);
            return Ok(next.checked_sub(1));
        }
        Ok(self.find(self.names.own(name)?, next))
    }

    /// The index of the column with this own name.
    pub(super) fn find(&self, name: &str, next: &mut usize) -> Option<usize> {
        let slot = match self.fields.get(*next) {
            Some(field) if field.name == name => *next,
            _ => self.fields.iter().position(|field| field.name == name)?,
        };
        *next = slot.saturating_add(1);
        Some(slot)
    }

    /// A row of NULLs.
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

    /// Reads only these values.
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

    /// Returns a deleted row, if no column of its primary key is null.
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
