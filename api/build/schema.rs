//! The Rust type of a schema: the names that typify gives.

use openapiv3::{ReferenceOr, Schema, SchemaKind, StringType, Type, VariantOrUnknownOrEmpty};
use proc_macro2::TokenStream;
use quote::quote;

use crate::operation::type_of;

const SCHEMAS: &str = "#/components/schemas/";

/// Name of a body's schema. An inline body is an error: it would have a type of its own.
pub fn component_name(schema: Option<&ReferenceOr<Schema>>) -> Result<String, String> {
    match schema {
        Some(ReferenceOr::Reference { reference }) => reference_name(reference),
        _ => Err("give the body's schema a name below components/schemas and refer to it".to_owned()),
    }
}

pub fn reference_name(reference: &str) -> Result<String, String> {
    reference.strip_prefix(SCHEMAS).map(str::to_owned).ok_or(format!("{reference} is not below {SCHEMAS}"))
}

/// The type of a parameter. `inline_name` is the name that typify gives to an inline schema.
pub fn parameter_type(inline_name: &str, schema: &ReferenceOr<Schema>) -> Result<TokenStream, String> {
    let schema = match schema {
        ReferenceOr::Reference { reference } => return Ok(type_of(&reference_name(reference)?)),
        ReferenceOr::Item(schema) => schema,
    };
    match &schema.schema_kind {
        SchemaKind::Type(Type::Integer(integer)) => match integer.format {
            VariantOrUnknownOrEmpty::Item(openapiv3::IntegerFormat::Int64) => Ok(quote!(i64)),
            VariantOrUnknownOrEmpty::Item(openapiv3::IntegerFormat::Int32) => Ok(quote!(i32)),
            _ => Err("an integer needs the format int64 or int32".to_owned()),
        },
        SchemaKind::Type(Type::Boolean(_)) => Ok(quote!(bool)),
        SchemaKind::Type(Type::String(text)) => Ok(text_type(inline_name, text)),
        _ => Err("a parameter is text, a whole number or a boolean".to_owned()),
    }
}

/// The type of an inline text.
pub fn text_type(inline_name: &str, text: &StringType) -> TokenStream {
    if is_uuid(text) {
        quote!(::uuid::Uuid)
    } else if is_plain(text) {
        quote!(::std::string::String)
    } else {
        type_of(inline_name)
    }
}

pub fn is_uuid(text: &StringType) -> bool {
    matches!(&text.format, VariantOrUnknownOrEmpty::Unknown(format) if format == "uuid")
}

fn is_plain(text: &StringType) -> bool {
    text.enumeration.is_empty() && text.pattern.is_none() && text.min_length.is_none() && text.max_length.is_none()
}
