//! What a request may look like: a static `Shape` for each parameter and for each schema that a body uses.
//! Every keyword is either in the shape, and so enforced by the router, or an error here.

use std::collections::BTreeMap;

use openapiv3::{
    AdditionalProperties, ArrayType, IntegerFormat, IntegerType, NumberType, ObjectType, ReferenceOr, Schema,
    SchemaKind, StringType, Type, VariantOrUnknownOrEmpty,
};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::{
    document::Document,
    operation::{Operation, Parameter},
    schema::{is_uuid, reference_name},
};

pub fn generate(document: &Document) -> Result<TokenStream, String> {
    let mut shapes = Shapes { document, named: BTreeMap::new(), open: Vec::new() };
    for operation in &document.operations {
        if let Some(body) = &operation.body {
            shapes.named(body)?;
        }
        for parameter in &operation.parameters {
            if let ReferenceOr::Item(schema) = &parameter.schema {
                let shape = shapes.shape(schema).map_err(|problem| {
                    format!("{}: parameter {}: {problem}", operation.id, parameter.name)
                })?;
                shapes.named.insert(inline_name(operation, parameter).to_string(), shape);
            } else {
                shapes.reference(&parameter.schema)?;
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
            use crate::server::shape::*;
            #(#statics)*
        }
    })
}

/// The static that a parameter is checked with.
pub fn parameter_shape(operation: &Operation, parameter: &Parameter) -> Ident {
    match &parameter.schema {
        ReferenceOr::Reference { reference } => {
            named_ident(reference.rsplit('/').next().unwrap_or(reference))
        }
        ReferenceOr::Item(_) => inline_name(operation, parameter),
    }
}

/// The static that a body is checked with.
pub fn named_ident(schema: &str) -> Ident {
    format_ident!("{}", heck::ToShoutySnakeCase::to_shouty_snake_case(schema))
}

fn inline_name(operation: &Operation, parameter: &Parameter) -> Ident {
    format_ident!("{}_{}", operation.constant(), parameter.ident.to_string().to_uppercase())
}

struct Shapes<'a> {
    document: &'a Document,
    named: BTreeMap<String, TokenStream>,
    /// Names being made: a schema that contains itself would check for ever.
    open: Vec<String>,
}

impl Shapes<'_> {
    fn named(&mut self, name: &str) -> Result<Ident, String> {
        let ident = named_ident(name);
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
        let shape = self.shape(schema).map_err(|problem| format!("schema {name}: {problem}"))?;
        self.open.pop();
        self.named.insert(ident.to_string(), shape);
        Ok(ident)
    }

    fn reference(&mut self, schema: &ReferenceOr<Schema>) -> Result<TokenStream, String> {
        match schema {
            ReferenceOr::Reference { reference } => {
                let ident = self.named(&reference_name(reference)?)?;
                Ok(quote!(&#ident))
            }
            ReferenceOr::Item(schema) => {
                let shape = self.shape(schema)?;
                Ok(quote!(&#shape))
            }
        }
    }

    fn shape(&mut self, schema: &Schema) -> Result<TokenStream, String> {
        let data = &schema.schema_data;
        refuse("nullable", data.nullable)?;
        refuse("default", data.default.is_some())?;
        refuse("discriminator", data.discriminator.is_some())?;
        match &schema.schema_kind {
            SchemaKind::Type(Type::Object(object)) => self.object(object),
            SchemaKind::Type(Type::Array(array)) => self.array(array),
            SchemaKind::Type(Type::String(text)) => text_shape(text),
            SchemaKind::Type(Type::Integer(integer)) => integer_shape(integer),
            SchemaKind::Type(Type::Number(number)) => number_shape(number),
            SchemaKind::Type(Type::Boolean(boolean)) => {
                refuse("enum of booleans", !boolean.enumeration.is_empty())?;
                Ok(quote!(Shape::Boolean))
            }
            _ => Err(unenforced("oneOf, allOf, anyOf, not, or no type")),
        }
    }

    fn object(&mut self, object: &ObjectType) -> Result<TokenStream, String> {
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
        for (name, property) in properties {
            let shape =
                self.reference(&property.clone().unbox()).map_err(|problem| format!("{name}: {problem}"))?;
            let required = required.contains(name);
            fields.push(quote!(Field { name: #name, required: #required, shape: #shape }));
        }
        Ok(quote!(Shape::Object(&[#(#fields),*])))
    }

    fn array(&mut self, array: &ArrayType) -> Result<TokenStream, String> {
        let ArrayType { items, min_items, max_items, unique_items } = array;
        refuse("uniqueItems", *unique_items)?;
        let items = items.clone().ok_or("an array says what its items are")?;
        let items = self.reference(&items.unbox())?;
        let min = min_items.unwrap_or(0);
        let max = max_items.ok_or("an array in a request has a limit: say maxItems")?;
        Ok(quote!(Shape::Array { items: #items, items_min: #min, items_max: #max }))
    }
}

fn text_shape(text: &StringType) -> Result<TokenStream, String> {
    let StringType { format, pattern, enumeration, min_length, max_length } = text;
    let format = match format {
        VariantOrUnknownOrEmpty::Empty => quote!(None),
        _ if is_uuid(text) => quote!(Some(Format::Uuid)),
        other => return Err(unenforced(&format!("format {other:?}"))),
    };
    let pattern = match pattern {
        None => quote!(None),
        Some(source) => {
            regress::Regex::new(source).map_err(|error| format!("pattern {source}: {error}"))?;
            quote!({
                static PATTERN: Pattern = Pattern::new(#source, || {
                    ::regress::Regex::new(#source).expect("it was compiled when this was generated")
                });
                Some(&PATTERN)
            })
        }
    };
    let one_of = enumeration.iter().flatten();
    let min = min_length.unwrap_or(0);
    let max = max_length.map_or(quote!(None), |max| quote!(Some(#max)));
    Ok(quote! {
        Shape::Text(Text { format: #format, one_of: &[#(#one_of),*], chars_min: #min, chars_max: #max, pattern: #pattern })
    })
}

fn integer_shape(integer: &IntegerType) -> Result<TokenStream, String> {
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
    let min = bound(minimum.unwrap_or(least).max(least));
    let max = bound(maximum.unwrap_or(greatest).min(greatest));
    Ok(quote!(Shape::Integer { min: #min, max: #max }))
}

fn bound(value: i64) -> TokenStream {
    match value {
        i64::MIN => quote!(i64::MIN),
        i64::MAX => quote!(i64::MAX),
        _ => quote!(#value),
    }
}

fn number_shape(number: &NumberType) -> Result<TokenStream, String> {
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
    refuse("a limit of a number", limited || minimum.is_some() || maximum.is_some())?;
    Ok(quote!(Shape::Number))
}

fn refuse(keyword: &str, present: bool) -> Result<(), String> {
    if present { Err(unenforced(keyword)) } else { Ok(()) }
}

fn unenforced(keyword: &str) -> String {
    format!(
        "{keyword} is not enforced by the router: leave it out, or teach build/shapes.rs and src/server/shape.rs"
    )
}
