//! One operation of a document, with the names of the generated code.

use heck::ToPascalCase;
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
    pub body: Option<Body>,
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
    pub rust_type: TokenStream,
    /// Of the type `Shape`.
    pub shape: TokenStream,
}

/// The body of a request.
pub struct Body {
    pub rust_type: TokenStream,
    /// Of the type `Shape`. None for bytes, which are not checked.
    pub shape: Option<TokenStream>,
}

pub struct Success {
    /// One, or 200 and 201: the operation finds or creates.
    pub statuses: Vec<u16>,
    pub headers: Vec<Header>,
    pub body: Option<Content>,
}

impl Success {
    pub fn finds_or_creates(&self) -> bool {
        self.statuses.len() > 1
    }

    /// Whether the method returns more than a body.
    pub fn is_struct(&self) -> bool {
        !self.headers.is_empty() || self.finds_or_creates()
    }
}

/// The body of a response.
#[derive(PartialEq)]
pub enum Content {
    /// With the name of its schema.
    Json(String),
    Bytes,
}

impl Content {
    pub fn rust_type(&self) -> TokenStream {
        match self {
            Self::Json(schema) => type_of(schema),
            Self::Bytes => quote!(Bytes),
        }
    }
}

#[derive(PartialEq)]
pub struct Header {
    pub name: String,
    pub ident: Ident,
    /// Whether an instance of the previous version does not send it.
    pub is_added: bool,
}

impl Operation {
    /// The type of the method's result.
    pub fn output(&self) -> TokenStream {
        match (&self.success.body, self.success.is_struct()) {
            (_, true) => {
                let name = self.response_name();
                quote!(#name)
            }
            (Some(body), false) => body.rust_type(),
            (None, false) => quote!(()),
        }
    }

    /// Names and types of the method's arguments after the context.
    pub fn arguments(&self) -> (Vec<Ident>, Vec<TokenStream>) {
        let caller = match self.security {
            Security::None => None,
            Security::Token => Some(quote!(TokenCaller)),
            Security::OptionalToken => Some(quote!(Option<TokenCaller>)),
            Security::Basic => Some(quote!(BasicCaller)),
        };
        let caller = caller.map(|caller| (format_ident!("caller"), caller));
        let parameters = self.parameters.iter().map(|Parameter { ident, rust_type, required, .. }| {
            (ident.clone(), if *required { quote!(#rust_type) } else { quote!(Option<#rust_type>) })
        });
        let body = self.body.as_ref().map(|body| (format_ident!("body"), body.rust_type.clone()));
        caller.into_iter().chain(parameters).chain(body).unzip()
    }

    /// The signature of the method, for the trait and its implementations.
    pub fn signature(&self) -> TokenStream {
        let (id, (names, types), output) = (&self.id, self.arguments(), self.output());
        quote!(async fn #id(&self, context: &Context, #(#names: #types),*) -> Result<#output, Problem>)
    }

    pub fn response_name(&self) -> Ident {
        format_ident!("{}Response", self.id.to_string().to_pascal_case())
    }

    pub fn constant(&self) -> Ident {
        format_ident!("{}", self.id.to_string().to_uppercase())
    }
}

/// The Rust type of a named schema.
pub fn type_of(schema: &str) -> TokenStream {
    let name = format_ident!("{}", schema.to_pascal_case());
    quote!(types::#name)
}
