//! One operation of a document, with the names of the generated code.

use heck::ToPascalCase;
use openapiv3::{ReferenceOr, Schema};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

pub struct Operation {
    pub id: Ident,
    pub summary: String,
    /// Such as `get`.
    pub method: String,
    pub path: String,
    pub security: Security,
    /// In the order of the method's arguments: path, query, header.
    pub parameters: Vec<Parameter>,
    /// Name of the body's schema.
    pub body: Option<String>,
    pub success: Success,
    /// Every declared status.
    pub statuses: Vec<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Security {
    None,
    Token,
    OptionalToken,
    Basic,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Path,
    Query,
    Header,
}

pub struct Parameter {
    pub place: Place,
    /// The name in the request.
    pub name: String,
    /// The name of the argument.
    pub ident: Ident,
    pub required: bool,
    pub schema: ReferenceOr<Schema>,
    pub rust_type: TokenStream,
}

pub struct Success {
    pub status: u16,
    pub headers: Vec<Header>,
    /// Name of the body's schema.
    pub body: Option<String>,
}

pub struct Header {
    pub name: String,
    pub ident: Ident,
    pub required: bool,
}

impl Operation {
    /// The type of the method's result.
    pub fn output(&self) -> TokenStream {
        match (&self.success.body, self.success.headers.is_empty()) {
            (_, false) => {
                let name = self.response_name();
                quote!(#name)
            }
            (Some(body), true) => type_of(body),
            (None, true) => quote!(()),
        }
    }

    pub fn response_name(&self) -> Ident {
        format_ident!("{}Response", self.id.to_string().to_pascal_case())
    }

    /// Such as `Method::GET`.
    pub fn method_constant(&self) -> TokenStream {
        let method = format_ident!("{}", self.method.to_uppercase());
        quote!(Method::#method)
    }

    pub fn constant(&self) -> Ident {
        format_ident!("{}", self.id.to_string().to_uppercase())
    }
}

impl Parameter {
    pub fn argument_type(&self) -> TokenStream {
        let inner = &self.rust_type;
        if self.required { quote!(#inner) } else { quote!(Option<#inner>) }
    }
}

/// The Rust type of a named schema.
pub fn type_of(schema: &str) -> TokenStream {
    let name = format_ident!("{}", schema.to_pascal_case());
    quote!(types::#name)
}
