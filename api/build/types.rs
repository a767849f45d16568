//! Types and mock servers: progenitor's and typify's work, prepared and trimmed.

use std::error::Error;

use heck::ToPascalCase;
use openapiv3::OpenAPI;
use proc_macro2::TokenStream;
use progenitor::{GenerationSettings, Generator, TypeImpl};
use quote::{ToTokens, quote};
use serde_json::Value;
use syn::{Token, parse::Parser, parse_quote, punctuated::Punctuated};
use typify::{TypeSpace, TypeSpaceSettings};

use crate::document::{Document, JSON, PROBLEM_JSON};

/// The `types` module and the mock server of one document. Progenitor's client is left out: ours implements
/// the server's trait (see `client.rs`).
pub fn from_openapi(document: &Document) -> Result<(TokenStream, TokenStream), Box<dyn Error>> {
    let prepared = prepare(document)?;
    let mut settings = GenerationSettings::default();
    settings.with_derive("PartialEq").with_replacement(
        "Problem",
        "crate::Problem",
        [TypeImpl::Display].into_iter(),
    );
    let file: syn::File = syn::parse2(Generator::new(&settings).generate_tokens(&prepared)?)?;
    let mut types = file
        .items
        .into_iter()
        .find_map(|item| match item {
            syn::Item::Mod(module) if module.ident == "types" => Some(module),
            _ => None,
        })
        .ok_or("progenitor made no module `types`")?;
    types.attrs.retain(|attribute| !attribute.path().is_ident("allow"));
    if let Some((_, items)) = &mut types.content {
        hide(items, &secrets(&serde_json::to_value(&document.openapi)?["components"]["schemas"]));
    }
    let crate_path = format!("crate::{}", document.module);
    let mock = Generator::new(&settings).httpmock(&prepared, &crate_path)?;
    Ok((types.into_token_stream(), mock))
}

/// The document as progenitor should see it: without pages, with problems as typed answers, and with plain
/// integers, because a bounded one would become a `NonZeroU64` (`shapes.rs` checks the bounds).
fn prepare(document: &Document) -> Result<OpenAPI, serde_json::Error> {
    let mut openapi = document.openapi.clone();
    openapi.paths.paths.retain(|path, _| document.operations.iter().any(|operation| operation.path == *path));
    let mut json = serde_json::to_value(openapi)?;
    simplify(&mut json);
    serde_json::from_value(json)
}

fn simplify(json: &mut Value) {
    match json {
        Value::Object(members) => {
            if members.get("type").is_some_and(|kind| kind == "integer") {
                members.remove("minimum");
                members.remove("maximum");
            }
            if let Some(content) = members.remove(PROBLEM_JSON) {
                members.insert(JSON.to_owned(), content);
            }
            members.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

/// The types of a JSON Schema's `definitions`.
pub fn from_json_schema(text: &str) -> Result<TokenStream, Box<dyn Error>> {
    let schema: schemars::schema::RootSchema = serde_json::from_str(text)?;
    let secrets = secrets(&serde_json::from_str::<Value>(text)?["definitions"]);
    let mut types = TypeSpace::new(TypeSpaceSettings::default().with_derive("PartialEq".to_owned()));
    types.add_ref_types(schema.definitions)?;
    let mut file: syn::File = syn::parse2(types.to_stream())?;
    hide(&mut file.items, &secrets);
    Ok(file.into_token_stream())
}

/// Names of the types that hold a secret: schemas marked `x-secret`.
fn secrets(schemas: &Value) -> Vec<String> {
    let schemas = schemas.as_object().into_iter().flatten();
    schemas.filter(|(_, schema)| schema["x-secret"] == true).map(|(name, _)| name.to_pascal_case()).collect()
}

/// Gives secrets a `Debug` that says nothing, so that no log can hold them by accident.
fn hide(items: &mut Vec<syn::Item>, secrets: &[String]) {
    let mut hidden = Vec::new();
    for item in items.iter_mut() {
        let syn::Item::Struct(secret) = item else { continue };
        let name = secret.ident.to_string();
        if !secrets.contains(&name) {
            continue;
        }
        for attribute in secret.attrs.iter_mut().filter(|attribute| attribute.path().is_ident("derive")) {
            if let syn::Meta::List(derived) = &mut attribute.meta {
                let all = Punctuated::<syn::Path, Token![,]>::parse_terminated;
                let kept = all.parse2(derived.tokens.clone()).unwrap_or_default();
                let kept = kept.into_iter().filter(|path| !path.is_ident("Debug"));
                derived.tokens = quote!(#(#kept),*);
            }
        }
        let ident = &secret.ident;
        hidden.push(parse_quote! {
            impl ::std::fmt::Debug for #ident {
                fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                    f.debug_tuple(#name).finish_non_exhaustive()
                }
            }
        });
    }
    items.extend(hidden);
}
