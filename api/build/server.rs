//! The API trait with one method for each operation, and the router that calls it.

use heck::ToPascalCase;
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use crate::{
    document::Document,
    operation::{Content, Operation, Parameter, Place, Security},
};

pub fn generate(document: &Document) -> TokenStream {
    let responses = document.operations.iter().filter(|operation| operation.success.is_struct()).map(response);
    let constants = document.operations.iter().map(|operation| constant(&document.service, operation));
    let api = api(document);
    let router = router(document);
    quote! {
        use crate::generated::*;
        #(#responses)*
        #(#constants)*
        #api
        #router
    }
}

pub fn trait_name(document: &Document) -> Ident {
    format_ident!("{}Api", document.module.to_pascal_case())
}

fn response(operation: &Operation) -> TokenStream {
    let name = operation.response_name();
    let doc = format!("The response of `{}` with its declared headers.", operation.id);
    let is_new = operation.success.finds_or_creates().then(|| {
        quote! {
            /// Whether it was created: 201, not 200.
            pub is_new: bool,
        }
    });
    let headers = operation.success.headers.iter().map(|header| {
        let ident = &header.ident;
        if header.is_added { quote!(pub #ident: Option<String>,) } else { quote!(pub #ident: String,) }
    });
    let body = operation.success.body.as_ref().map(Content::rust_type).map(|body| quote!(pub body: #body,));
    quote! {
        #[doc = #doc]
        #[derive(Debug, Clone, PartialEq)]
        pub struct #name { #is_new #(#headers)* #body }
    }
}

fn constant(service: &str, operation: &Operation) -> TokenStream {
    let (name, id, statuses) = (operation.constant(), operation.id.to_string(), &operation.statuses);
    let (method, success) = (format_ident!("{}", operation.method.to_uppercase()), &operation.success.statuses);
    let needs_password = operation.security == Security::Basic;
    quote! {
        static #name: OperationInfo = OperationInfo {
            service: #service, id: #id, method: Method::#method, needs_password: #needs_password,
            success: &[#(#success),*], statuses: &[#(#statuses),*],
        };
    }
}

fn api(document: &Document) -> TokenStream {
    let name = trait_name(document);
    let doc = document.openapi.info.description.clone().unwrap_or_default();
    let methods = document.operations.iter().map(|operation| {
        let (summary, signature) = (&operation.summary, operation.signature());
        quote! { #[doc = #summary] #signature; }
    });
    quote! {
        #[doc = #doc]
        #[async_trait::async_trait]
        pub trait #name: Send + Sync + 'static { #(#methods)* }
    }
}

fn router(document: &Document) -> TokenStream {
    let api = trait_name(document);
    let mut paths: Vec<&str> = document.operations.iter().map(|operation| operation.path.as_str()).collect();
    paths.dedup();
    let routes = paths.into_iter().map(|path| {
        let methods = document.operations.iter().filter(|operation| operation.path == path).map(|operation| {
            let (method, id) = (format_ident!("{}", operation.method), &operation.id);
            quote!(.#method(handlers::#id))
        });
        quote!(.route(#path, MethodRouter::new() #(#methods)* .fallback(method_not_allowed_fallback)))
    });
    let handlers = document.operations.iter().map(handler);
    quote! {
        #[derive(Clone)]
        struct Served { api: Arc<dyn #api>, verify: Arc<dyn VerifyToken> }

        /// Checks each request against the document, then calls `api`. The paths are absolute.
        pub fn router(api: Arc<dyn #api>, verify: Arc<dyn VerifyToken>) -> axum::Router {
            axum::Router::new() #(#routes)* .with_state(Served { api, verify })
        }

        mod handlers {
            use super::*;
            #(#handlers)*
        }
    }
}

fn handler(operation: &Operation) -> TokenStream {
    let (id, constant) = (&operation.id, operation.constant());
    let caller = match operation.security {
        Security::None => quote!(),
        Security::Token => quote! { let caller = head.token_caller(&*served.verify).await?; },
        Security::OptionalToken => {
            quote! { let caller = head.optional_token_caller(&*served.verify).await?; }
        }
        Security::Basic => quote! { let caller = head.basic_caller()?; },
    };
    let parameters = operation.parameters.iter().map(read_parameter);
    let body = operation.body.as_ref().map(|body| {
        let Some(shape) = &body.shape else { return quote! { let body = head.bytes(body).await?; } };
        quote! {
            static BODY: Shape = #shape;
            let body = head.body(body, &BODY).await?;
        }
    });
    let (arguments, _) = operation.arguments();
    let answer = answer(operation, &quote!(served.api.#id(&context, #(#arguments),*).await?));
    let uses_head = operation.security != Security::None || !operation.parameters.is_empty() || body.is_some();
    let head = if uses_head { quote!(head) } else { quote!(_) };
    let payload = if body.is_some() { quote!(body) } else { quote!(_) };
    quote! {
        pub async fn #id(State(served): State<Served>, request: Request) -> Response {
            let (context, #head, #payload) = open(request).await;
            let answer: Result<Response, Problem> = async { #caller #(#parameters)* #body #answer }.await;
            #constant.finish(&context, answer)
        }
    }
}

fn read_parameter(parameter: &Parameter) -> TokenStream {
    let Parameter { ident, name, shape, .. } = parameter;
    let constant = format_ident!("{}", ident.to_string().to_uppercase());
    let read = match parameter.place {
        Place::Path => quote!(path),
        Place::Query => quote!(query),
        Place::Header => quote!(header),
    };
    let required = parameter.required && parameter.place != Place::Path;
    let required = required.then(|| quote!(.ok_or_else(|| #constant.missing(#name))?));
    quote! {
        static #constant: Shape = #shape;
        let #ident = head.#read(#name, &#constant)? #required;
    }
}

fn answer(operation: &Operation, call: &TokenStream) -> TokenStream {
    let constant = operation.constant();
    let is_struct = operation.success.is_struct();
    let bind = if is_struct || operation.success.body.is_some() { quote!(let output = #call;) } else { quote!(#call;) };
    let is_new = operation.success.finds_or_creates().then(|| quote!(.found_or_created(output.is_new)));
    let body = operation.success.body.as_ref().map(|content| {
        let body = if is_struct { quote!(&output.body) } else { quote!(&output) };
        match content {
            Content::Json(_) => quote!(.json(#body)?),
            Content::Bytes => quote!(.bytes(#body)),
        }
    });
    let headers = operation.success.headers.iter().map(|header| {
        let (name, ident) = (&header.name, &header.ident);
        let value = if header.is_added { quote!(output.#ident.as_deref()) } else { quote!(Some(&output.#ident)) };
        quote!(.header(#name, #value)?)
    });
    quote! { #bind Ok(Answer::new(&#constant) #is_new #body #(#headers)* .into_response()) }
}
