//! Which fields of the events say something about a person: what an erasure has to blank, and nothing else.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::Value;

/// Model to marked fields; a model without any has an empty list.
static MARKED: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(super::SCHEMA).expect("build/ made types of it");
    let definitions = schema["definitions"].as_object().into_iter().flatten();
    definitions
        .filter_map(|(name, model)| Some((name, model["properties"].as_object()?)))
        .map(|(name, properties)| {
            let marked = properties.iter().filter(|(_, property)| property["x-personal-data"] == true);
            (name.clone(), marked.map(|(field, _)| field.clone()).collect())
        })
        .collect()
});

/// The fields of `model` (such as `UserModel`) that are marked `x-personal-data: true`; `None` when there is no
/// such model, so that a misspelt one is not taken for one without personal data.
pub fn personal_fields(model: &str) -> Option<&'static [String]> {
    MARKED.get(model).map(Vec::as_slice)
}

/// All models of the events, each with its marked fields.
pub fn models_with_personal_fields() -> impl Iterator<Item = (&'static str, &'static [String])> {
    MARKED.iter().map(|(model, fields)| (model.as_str(), fields.as_slice()))
}
