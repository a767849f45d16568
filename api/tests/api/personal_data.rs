//! Each new field of an event is marked as personal data or not when it is added.

use flack_api::events::{SCHEMA, models_with_personal_fields, personal_fields};
use serde_json::Value;

#[test]
fn every_field_of_every_event_is_marked_as_personal_or_not() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let models: Vec<_> = schema["definitions"]
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(name, model)| Some((name, model["properties"].as_object()?)))
        .collect();
    assert!(models.len() >= 7, "{models:?}");
    for (model, fields) in models {
        assert!(
            model.ends_with("Model"),
            "{model}: a definition with properties is a model, and its name ends in Model"
        );
        for (field, schema) in fields {
            assert!(
                schema["x-personal-data"].is_boolean(),
                "{model}.{field}: set x-personal-data to true or false in schemas/events.schema.json"
            );
            // The mark of a list is about all of its values. Marks of nested objects would not be found.
            let is_flat =
                matches!(schema["type"].as_str(), Some("string" | "integer" | "number" | "boolean" | "array"));
            assert!(is_flat, "{model}.{field}: a field of a model is a single value or a list");
        }
    }
}

#[test]
fn personal_fields_lists_the_fields_that_an_erasure_blanks() {
    assert_eq!(
        personal_fields("UserModel").unwrap(),
        ["about", "display_name", "hue", "last_seen_at", "nickname", "online"]
    );
    assert_eq!(personal_fields("MessageModel").unwrap(), ["files", "html", "previews", "reactions", "source"]);
    assert_eq!(personal_fields("ReactionModel").unwrap(), ["emoji"]);
    assert_eq!(personal_fields("FileModel").unwrap(), ["name"]);
    assert_eq!(personal_fields("PreviewModel").unwrap(), ["description", "title", "url"]);
    assert_eq!(personal_fields("ReadMarkerModel").unwrap(), ["message_id"]);
    assert_eq!(personal_fields("ChannelMemberModel").unwrap(), ["last_read_message_id"]);
    let of_preferences = personal_fields("PreferencesModel").unwrap();
    assert_eq!(of_preferences, ["notifications", "people", "theme", "topics", "words"]);
    for model in ["ChannelModel", "SigningKeyModel", "TokenModel"] {
        assert!(personal_fields(model).unwrap().is_empty(), "{model}");
    }
    assert_eq!(models_with_personal_fields().count(), 11, "name the new model above");
}

#[test]
fn a_misspelt_model_is_not_one_without_personal_data() {
    assert_eq!(personal_fields("Usermodel"), None);
    assert_eq!(personal_fields("UsersEvent"), None, "a union is not a model");
}
