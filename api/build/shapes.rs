//! The shape of a parameter or a body: an expression of the type `Shape`. Each keyword of a schema is either
//! checked by the router, or an error here.

use openapiv3::{
    AdditionalProperties, ArrayType, IntegerFormat, IntegerType, ObjectType, OpenAPI, ReferenceOr, Schema, SchemaKind,
    StringType, Type, VariantOrUnknownOrEmpty,
};
use proc_macro2::TokenStream;
use quote::quote;
use serde_json::Value;

use crate::{
    operation::type_of,
    schema::{is_uuid, reference_name, text_type},
};

/// The words that a problem uses instead of the regular expression.
const PATTERN_DESCRIPTION: &str = "x-pattern-description";

/// Keywords that do not change which values are valid.
const DESCRIPTIONS: [&str; 5] = ["type", "title", "description", "example", "deprecated"];

/// Returns the shape of a schema. `name` is the name that typify gives to an inline schema. `within` are the names of
/// the schemas around it: a schema that contains itself would never end.
pub fn shape(
    openapi: &OpenAPI,
    name: &str,
    schema: &ReferenceOr<Schema>,
    within: &[&str],
) -> Result<TokenStream, String> {
    let reference = match schema {
        ReferenceOr::Reference { reference } => reference,
        ReferenceOr::Item(schema) => return inner_shape(openapi, name, schema, within),
    };
    let name = reference_name(reference)?;
    if within.contains(&&*name) {
        return Err(format!("schema {name} contains itself; the router does not check such bodies"));
    }
    let components = openapi.components.as_ref();
    let schema = components
        .and_then(|components| components.schemas.get(&name)?.as_item())
        .ok_or_else(|| format!("schema {name} is missing, or only refers to another"))?;
    inner_shape(openapi, &name, schema, &[within, &[&name]].concat())
        .map_err(|problem| format!("schema {name}: {problem}"))
}

fn inner_shape(openapi: &OpenAPI, name: &str, schema: &Schema, within: &[&str]) -> Result<TokenStream, String> {
    let SchemaKind::Type(kind) = &schema.schema_kind else {
        return Err(unenforced("oneOf, allOf, anyOf, not, or no type"));
    };
    refuse_others(kind, schema)?;
    let (allows, words) = match kind {
        Type::Object(object) => return object_shape(openapi, name, object, within),
        Type::Array(array) => return list_shape(openapi, name, array, within),
        Type::String(text) => {
            let pattern_words = schema.schema_data.extensions.get(PATTERN_DESCRIPTION);
            let is_named = within.last() == Some(&name);
            let rust_type = if is_named { type_of(name) } else { text_type(name, text) };
            (quote!(is::<#rust_type>), text_words(text, pattern_words.and_then(Value::as_str))?)
        }
        Type::Integer(integer) => integer_value(integer)?,
        Type::Number(_) => (quote!(::serde_json::Value::is_number), "a number".to_owned()),
        Type::Boolean(_) => (quote!(::serde_json::Value::is_boolean), "true or false".to_owned()),
    };
    Ok(quote!(Shape::Value { allows: #allows, words: #words }))
}

fn object_shape(openapi: &OpenAPI, name: &str, object: &ObjectType, within: &[&str]) -> Result<TokenStream, String> {
    let ObjectType { properties, required, additional_properties, .. } = object;
    if !matches!(additional_properties, None | Some(AdditionalProperties::Any(true))) {
        return Err(unenforced("additionalProperties"));
    }
    if let Some(name) = required.iter().find(|name| !properties.contains_key(*name)) {
        return Err(format!("{name} is required, but not described"));
    }
    let mut fields = Vec::new();
    for (field, property) in properties {
        let shape = shape(openapi, &format!("{name}_{field}"), &property.clone().unbox(), within)
            .map_err(|problem| format!("{field}: {problem}"))?;
        let required = required.contains(field);
        fields.push(quote!(Field { name: #field, required: #required, shape: &#shape }));
    }
    Ok(quote!(Shape::Object(&[#(#fields),*])))
}

fn list_shape(openapi: &OpenAPI, name: &str, array: &ArrayType, within: &[&str]) -> Result<TokenStream, String> {
    let items = array.items.clone().ok_or("items is missing")?.unbox();
    let max = array.max_items.ok_or("maxItems is missing: a list in a request has a limit")?;
    let min = array.min_items.unwrap_or(0);
    let items =
        shape(openapi, &format!("{name}_item"), &items, within).map_err(|problem| format!("items: {problem}"))?;
    Ok(quote!(Shape::List { items: &#items, min: #min, max: #max }))
}

/// Refuses every keyword that the router does not check and that is no description.
fn refuse_others(kind: &Type, schema: &Schema) -> Result<(), String> {
    let checked: &[&str] = match kind {
        Type::Object(_) => &["properties", "required", "additionalProperties"],
        Type::String(_) => &["format", "pattern", "enum", "minLength", "maxLength"],
        Type::Integer(_) => &["format", "minimum", "maximum"],
        Type::Number(_) => &["format"],
        Type::Array(_) => &["items", "minItems", "maxItems"],
        Type::Boolean(_) => &[],
    };
    let json = serde_json::to_value(schema).map_err(|error| error.to_string())?;
    let other =
        json.as_object().into_iter().flatten().map(|(keyword, _)| keyword.as_str()).find(|keyword| {
            !keyword.starts_with("x-") && !DESCRIPTIONS.contains(keyword) && !checked.contains(keyword)
        });
    other.map_or(Ok(()), |keyword| Err(unenforced(keyword)))
}

/// What is allowed, in words. The generated type checks it.
fn text_words(text: &StringType, pattern_words: Option<&str>) -> Result<String, String> {
    let StringType { format, pattern, enumeration, min_length, max_length } = text;
    let values: Vec<&str> = enumeration.iter().flatten().map(String::as_str).collect();
    let kind = match (format, values.as_slice()) {
        (VariantOrUnknownOrEmpty::Empty, []) => "text".to_owned(),
        (VariantOrUnknownOrEmpty::Empty, [only]) => (*only).to_owned(),
        (VariantOrUnknownOrEmpty::Empty, values) => format!("one of {}", values.join(", ")),
        _ if is_uuid(text) => "a UUID".to_owned(),
        (other, _) => return Err(unenforced(&format!("format {other:?}"))),
    };
    let length = match (min_length.unwrap_or(0), max_length) {
        (0, None) => None,
        (min, None) => Some(format!("of at least {min} characters")),
        (min, Some(max)) => Some(format!("of {min} to {max} characters")),
    };
    let mut words: Vec<String> = [kind].into_iter().chain(length).collect();
    if let Some(pattern) = pattern {
        regress::Regex::new(pattern).map_err(|error| format!("pattern {pattern}: {error}"))?;
        let pattern_words =
            pattern_words.ok_or(format!("{PATTERN_DESCRIPTION} is missing: say in words what the pattern allows"))?;
        words.push(pattern_words.to_owned());
    }
    Ok(words.join(" "))
}

/// The check of the bounds, which the generated type does not have, and what is allowed, in words.
fn integer_value(integer: &IntegerType) -> Result<(TokenStream, String), String> {
    let (least, greatest) = match &integer.format {
        VariantOrUnknownOrEmpty::Item(IntegerFormat::Int32) => (i64::from(i32::MIN), i64::from(i32::MAX)),
        VariantOrUnknownOrEmpty::Item(IntegerFormat::Int64) => (i64::MIN, i64::MAX),
        other => return Err(unenforced(&format!("format {other:?} of an integer"))),
    };
    let min = integer.minimum.unwrap_or(least).max(least);
    let max = integer.maximum.unwrap_or(greatest).min(greatest);
    let words = match (min, max) {
        (i64::MIN, i64::MAX) => "a whole number".to_owned(),
        (min, i64::MAX) => format!("a whole number of at least {min}"),
        (min, max) => format!("a whole number from {min} to {max}"),
    };
    Ok((quote!(|value| is_between(value, #min, #max)), words))
}

fn unenforced(keyword: &str) -> String {
    format!(
        "{keyword} is not checked by the router: remove it, or add the check to build/shapes.rs and \
         src/server/shape.rs"
    )
}
