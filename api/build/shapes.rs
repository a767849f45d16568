//! The shape of each request: a static `Shape` for each parameter and for each schema that a body uses.
//! Each keyword of a schema is either checked by the router, or an error here.

use std::collections::BTreeMap;

use heck::ToShoutySnakeCase;
use openapiv3::{
    AdditionalProperties, ArrayType, IntegerFormat, IntegerType, NumberType, ObjectType, ReferenceOr, Schema,
    SchemaKind, StringType, Type, VariantOrUnknownOrEmpty,
};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::{
    document::Document,
    operation::{Operation, Parameter, type_of},
    schema::{is_uuid, reference_name, text_type},
};

/// The words that a problem uses instead of the regular expression.
const PATTERN_DESCRIPTION: &str = "x-pattern-description";

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
        let data = &schema.schema_data;
        refuse("nullable", data.nullable)?;
        refuse("default", data.default.is_some())?;
        refuse("discriminator", data.discriminator.is_some())?;
        let (allows, words) = match &schema.schema_kind {
            SchemaKind::Type(Type::Object(object)) => return self.object(name, object),
            SchemaKind::Type(Type::Array(array)) => return self.array(name, array),
            SchemaKind::Type(Type::String(text)) => {
                let pattern_words = data.extensions.get(PATTERN_DESCRIPTION).and_then(|words| words.as_str());
                let rust_type = if is_named { type_of(name) } else { text_type(name, text) };
                (quote!(is::<#rust_type>), text_words(text, pattern_words)?)
            }
            SchemaKind::Type(Type::Integer(integer)) => integer_value(integer)?,
            SchemaKind::Type(Type::Number(number)) => {
                refuse_limits(number)?;
                (quote!(::serde_json::Value::is_number), "a number".to_owned())
            }
            SchemaKind::Type(Type::Boolean(boolean)) => {
                refuse("enum of booleans", !boolean.enumeration.is_empty())?;
                (quote!(::serde_json::Value::is_boolean), "true or false".to_owned())
            }
            _ => return Err(unenforced("oneOf, allOf, anyOf, not, or no type")),
        };
        Ok(quote!(Shape::Value { allows: #allows, words: #words }))
    }

    fn object(&mut self, name: &str, object: &ObjectType) -> Result<TokenStream, String> {
        let ObjectType { properties, required, additional_properties, min_properties, max_properties } =
            object;
        refuse("minProperties", min_properties.is_some())?;
        refuse("maxProperties", max_properties.is_some())?;
        let open = matches!(additional_properties, None | Some(AdditionalProperties::Any(true)));
        refuse("additionalProperties", !open)?;
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

    fn array(&mut self, name: &str, array: &ArrayType) -> Result<TokenStream, String> {
        let ArrayType { items, min_items, max_items, unique_items } = array;
        refuse("uniqueItems", *unique_items)?;
        let items = items.clone().ok_or("an array needs `items`")?;
        let items = self.reference(&format!("{name}_item"), &items.unbox())?;
        let min = min_items.unwrap_or(0);
        let max = max_items.ok_or("an array in a request needs a limit: `maxItems`")?;
        Ok(quote!(Shape::Array { items: #items, items_min: #min, items_max: #max }))
    }
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
    let IntegerType {
        format,
        multiple_of,
        exclusive_minimum,
        exclusive_maximum,
        minimum,
        maximum,
        enumeration,
    } = integer;
    refuse("multipleOf", multiple_of.is_some())?;
    refuse("exclusiveMinimum", *exclusive_minimum)?;
    refuse("exclusiveMaximum", *exclusive_maximum)?;
    refuse("enum of integers", !enumeration.is_empty())?;
    let (least, greatest) = match format {
        VariantOrUnknownOrEmpty::Item(IntegerFormat::Int32) => (i64::from(i32::MIN), i64::from(i32::MAX)),
        VariantOrUnknownOrEmpty::Item(IntegerFormat::Int64) => (i64::MIN, i64::MAX),
        other => return Err(unenforced(&format!("format {other:?} of an integer"))),
    };
    let (min, max) = (minimum.unwrap_or(least).max(least), maximum.unwrap_or(greatest).min(greatest));
    let words = match (min, max) {
        (i64::MIN, i64::MAX) => "a whole number".to_owned(),
        (min, i64::MAX) => format!("a whole number of at least {min}"),
        (min, max) => format!("a whole number from {min} to {max}"),
    };
    let [min, max] = [min, max].map(|bound| match bound {
        i64::MIN => quote!(i64::MIN),
        i64::MAX => quote!(i64::MAX),
        _ => quote!(#bound),
    });
    Ok((quote!(|value| is_between(value, #min, #max)), words))
}

fn refuse_limits(number: &NumberType) -> Result<(), String> {
    let NumberType {
        format: _,
        multiple_of,
        exclusive_minimum,
        exclusive_maximum,
        minimum,
        maximum,
        enumeration,
    } = number;
    let limited =
        multiple_of.is_some() || *exclusive_minimum || *exclusive_maximum || !enumeration.is_empty();
    refuse("a limit of a number", limited || minimum.is_some() || maximum.is_some())
}

fn refuse(keyword: &str, present: bool) -> Result<(), String> {
    if present { Err(unenforced(keyword)) } else { Ok(()) }
}

fn unenforced(keyword: &str) -> String {
    format!(
        "{keyword} is not checked by the router: remove it, or add the check to build/shapes.rs and src/server/shape.rs"
    )
}
