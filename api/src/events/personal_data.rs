//! The fields of events with personal data, which an erasure blanks.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;

/// Model to its marked fields. A model without personal data has an empty list.
static MARKED: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(super::SCHEMA).expect("build/ has generated types from it");
    let definitions = schema["definitions"].as_object().into_iter().flatten();
    definitions
        .filter_map(|(name, model)| Some((name, model["properties"].as_object()?)))
        .map(|(name, properties)| {
            let marked = properties.iter().filter(|(_, property)| property["x-personal-data"] == true);
            (name.clone(), marked.map(|(field, _)| field.clone()).collect())
        })
        .collect()
});

/// Returns the fields of `model` (such as `UserModel`) with `x-personal-data: true`, or `None` for an unknown model: a
/// misspelt name is not the same as a model without personal data.
pub fn personal_fields(model: &str) -> Option<&'static [String]> {
    MARKED.get(model).map(Vec::as_slice)
}

/// Returns all models of events, each with its marked fields.
pub fn models_with_personal_fields() -> impl Iterator<Item = (&'static str, &'static [String])> {
    MARKED.iter().map(|(model, fields)| (model.as_str(), fields.as_slice()))
}
