//! Which Rust type stands for a schema: the names that typify gives.

use openapiv3::{ReferenceOr, Schema, SchemaKind, StringType, Type, VariantOrUnknownOrEmpty};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::operation::type_of;

const SCHEMAS: &str = "#/components/schemas/";

/// Bodies are named, so that there is one type for each.
pub fn component_name(schema: Option<&ReferenceOr<Schema>>) -> Result<String, String> {
    match schema {
        Some(ReferenceOr::Reference { reference }) => reference_name(reference),
        _ => Err("give the body's schema a name below components/schemas and refer to it".to_owned()),
    }
}

pub fn reference_name(reference: &str) -> Result<String, String> {
    reference.strip_prefix(SCHEMAS).map(str::to_owned).ok_or(format!("{reference} is not below {SCHEMAS}"))
}

/// `inline_name` is what typify calls a type that has no name of its own.
pub fn parameter_type(inline_name: &str, schema: &ReferenceOr<Schema>) -> Result<TokenStream, String> {
    let schema = match schema {
        ReferenceOr::Reference { reference } => return Ok(type_of(&reference_name(reference)?)),
        ReferenceOr::Item(schema) => schema,
    };
    match &schema.schema_kind {
        SchemaKind::Type(Type::Integer(integer)) => match integer.format {
            VariantOrUnknownOrEmpty::Item(openapiv3::IntegerFormat::Int64) => Ok(quote!(i64)),
            VariantOrUnknownOrEmpty::Item(openapiv3::IntegerFormat::Int32) => Ok(quote!(i32)),
            _ => Err("say format int64 or int32".to_owned()),
        },
        SchemaKind::Type(Type::Boolean(_)) => Ok(quote!(bool)),
        SchemaKind::Type(Type::String(text)) if is_uuid(text) => Ok(quote!(::uuid::Uuid)),
        SchemaKind::Type(Type::String(text)) if is_plain(text) => Ok(quote!(String)),
        SchemaKind::Type(Type::String(_)) => {
            let name = format_ident!("{inline_name}");
            Ok(quote!(types::#name))
        }
        _ => Err("a parameter is text, a whole number or a boolean".to_owned()),
    }
}

pub fn is_uuid(text: &StringType) -> bool {
    matches!(&text.format, VariantOrUnknownOrEmpty::Unknown(format) if format == "uuid")
}

fn is_plain(text: &StringType) -> bool {
    text.enumeration.is_empty()
        && text.pattern.is_none()
        && text.min_length.is_none()
        && text.max_length.is_none()
}
