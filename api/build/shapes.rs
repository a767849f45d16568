//! The shape of each request: a static `Shape` for each parameter and for each schema that a body uses.
//! Each keyword of a schema is either checked by the router, or an error here.

use std::collections::BTreeMap;

use heck::ToShoutySnakeCase;
use openapiv3::{
    AdditionalProperties, IntegerFormat, IntegerType, ObjectType, ReferenceOr, Schema, SchemaKind,
    StringType, Type, VariantOrUnknownOrEmpty,
};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use serde_json::Value;

use crate::{
    document::Document,
    operation::{Operation, Parameter, type_of},
    schema::{is_uuid, reference_name, text_type},
};

/// The words that a problem uses instead of the regular expression.
const PATTERN_DESCRIPTION: &str = "x-pattern-description";

/// Keywords that do not change which values are valid.
const DESCRIPTIONS: [&str; 5] = ["type", "title", "description", "example", "deprecated"];

pub fn generate(document: &Document) -> Result<TokenStream, String> {
    let mut shapes = Shapes { document, named: BTreeMap::new(), open: Vec::new() };
    for operation in &document.operations {
        if let Some(body) = &operation.body {
            shapes.named(body)?;
        }
        for parameter in &operation.parameters {
            if let ReferenceOr::Item(schema) = &parameter.schema {
                let name = inline_name(operation, parameter);
                let shape = shapes.shape(&name, false, schema).map_err(|problem| {
                    format!("{}: parameter {}: {problem}", operation.id, parameter.name)
                })?;
                shapes.named.insert(static_ident(&name).to_string(), shape);
            } else {
                shapes.reference("", &parameter.schema)?;
            }
        }
    }
    let statics = shapes.named.iter().map(|(name, shape)| {
        let name = format_ident!("{name}");
        quote! { pub static #name: Shape = #shape; }
    });
    if shapes.named.is_empty() {
        return Ok(TokenStream::new());
    }
    Ok(quote! {
        mod shapes {
            use super::types;
            use crate::server::shape::*;
            #(#statics)*
        }
    })
}

/// The static that a parameter is checked with.
pub fn parameter_shape(operation: &Operation, parameter: &Parameter) -> Ident {
    match &parameter.schema {
        ReferenceOr::Reference { reference } => {
            static_ident(reference.rsplit('/').next().unwrap_or(reference))
        }
        ReferenceOr::Item(_) => static_ident(&inline_name(operation, parameter)),
    }
}

/// The static that a schema of this name is checked with.
pub fn static_ident(schema: &str) -> Ident {
    format_ident!("{}", schema.to_shouty_snake_case())
}

fn inline_name(operation: &Operation, parameter: &Parameter) -> String {
    format!("{}_{}", operation.id, parameter.ident)
}

struct Shapes<'a> {
    document: &'a Document,
    named: BTreeMap<String, TokenStream>,
    /// Names of schemas that are being read. A schema that contains itself would never end.
    open: Vec<String>,
}

impl Shapes<'_> {
    fn named(&mut self, name: &str) -> Result<Ident, String> {
        let ident = static_ident(name);
        if self.named.contains_key(&ident.to_string()) {
            return Ok(ident);
        }
        if self.open.iter().any(|open| open == name) {
            return Err(format!("schema {name} contains itself; the router does not check such bodies"));
        }
        let components = self.document.openapi.components.as_ref();
        let schema = components
            .and_then(|components| components.schemas.get(name)?.as_item())
            .ok_or_else(|| format!("schema {name} is missing, or only refers to another"))?;
        self.open.push(name.to_owned());
        let shape = self.shape(name, true, schema).map_err(|problem| format!("schema {name}: {problem}"))?;
        self.open.pop();
        self.named.insert(ident.to_string(), shape);
        Ok(ident)
    }

    /// `name` is the name that an inline schema has.
    fn reference(&mut self, name: &str, schema: &ReferenceOr<Schema>) -> Result<TokenStream, String> {
        match schema {
            ReferenceOr::Reference { reference } => {
                let ident = self.named(&reference_name(reference)?)?;
                Ok(quote!(&#ident))
            }
            ReferenceOr::Item(schema) => {
                let shape = self.shape(name, false, schema)?;
                Ok(quote!(&#shape))
            }
        }
    }

    /// `name` is the schema's own name, or the name that typify gives to an inline schema.
    fn shape(&mut self, name: &str, is_named: bool, schema: &Schema) -> Result<TokenStream, String> {
        let SchemaKind::Type(kind) = &schema.schema_kind else {
            return Err(unenforced("oneOf, allOf, anyOf, not, or no type"));
        };
        refuse_others(kind, schema)?;
        let (allows, words) = match kind {
            Type::Object(object) => return self.object(name, object),
            Type::Array(_) => return Err(unenforced("a list")),
            Type::String(text) => {
                let pattern_words = schema.schema_data.extensions.get(PATTERN_DESCRIPTION);
                let rust_type = if is_named { type_of(name) } else { text_type(name, text) };
                (quote!(is::<#rust_type>), text_words(text, pattern_words.and_then(Value::as_str))?)
            }
            Type::Integer(integer) => integer_value(integer)?,
            Type::Number(_) => (quote!(::serde_json::Value::is_number), "a number".to_owned()),
            Type::Boolean(_) => (quote!(::serde_json::Value::is_boolean), "true or false".to_owned()),
        };
        Ok(quote!(Shape::Value { allows: #allows, words: #words }))
    }

    fn object(&mut self, name: &str, object: &ObjectType) -> Result<TokenStream, String> {
        let ObjectType { properties, required, additional_properties, .. } = object;
        if !matches!(additional_properties, None | Some(AdditionalProperties::Any(true))) {
            return Err(unenforced("additionalProperties"));
        }
        if let Some(name) = required.iter().find(|name| !properties.contains_key(*name)) {
            return Err(format!("{name} is required, but not described"));
        }
        let mut fields = Vec::new();
        for (field, property) in properties {
            let shape = self
                .reference(&format!("{name}_{field}"), &property.clone().unbox())
                .map_err(|problem| format!("{field}: {problem}"))?;
            let required = required.contains(field);
            fields.push(quote!(Field { name: #field, required: #required, shape: #shape }));
        }
        Ok(quote!(Shape::Object(&[#(#fields),*])))
    }
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
    let other = json.as_object().into_iter().flatten().map(|(keyword, _)| keyword.as_str()).find(|keyword| {
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
        let pattern_words = pattern_words
            .ok_or(format!("{PATTERN_DESCRIPTION} is missing: say in words what the pattern allows"))?;
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
