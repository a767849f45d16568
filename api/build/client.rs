//! The client: it implements the API trait, so callers do not depend on where a service runs.

use heck::ToPascalCase;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::{
    document::Document,
    operation::{Content, Operation, Place, Security},
    server::trait_name,
};

pub fn generate(document: &Document) -> TokenStream {
    let (module, api) = (&document.module, trait_name(document));
    let client = format_ident!("{}Client", module.to_pascal_case());
    let doc = format!("Client of the service {}.", document.service);
    let methods = document.operations.iter().map(method);
    quote! {
        #[doc = #doc]
        #[derive(Debug, Clone)]
        pub struct #client { peer: Peer }

        impl #client {
            /// `base_url` has no path, such as `http://127.0.0.1:8081`.
            pub fn new(base_url: &str, http: reqwest::Client) -> Self {
                Self { peer: Peer::new(base_url, http) }
            }
        }

        #[async_trait::async_trait]
        impl #api for #client { #(#methods)* }
    }
}

fn method(operation: &Operation) -> TokenStream {
    let (signature, constant) = (operation.signature(), operation.constant());
    let segments = operation.path.split('/').skip(1).map(|segment| {
        match segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}')) {
            None => quote!(#segment),
            Some(name) => {
                let parameter = operation.parameters.iter().find(|parameter| parameter.name == name);
                let ident = parameter.map(|parameter| &parameter.ident);
                quote!(&#ident.to_string())
            }
        }
    });
    let caller = match operation.security {
        Security::None => quote!(),
        Security::Token => quote!(.token(Some(&caller))),
        Security::OptionalToken => quote!(.token(caller.as_ref())),
        Security::Basic => quote!(.basic(&caller)),
    };
    let parameters = operation.parameters.iter().filter(|parameter| parameter.place != Place::Path).map(|parameter| {
        let (name, ident) = (&parameter.name, &parameter.ident);
        let value = if parameter.required { quote!(Some(#ident)) } else { quote!(#ident) };
        if parameter.place == Place::Query { quote!(.query(#name, #value)) } else { quote!(.header(#name, #value)) }
    });
    let body = operation.body.as_ref().map(|body| {
        let is_json = body.shape.is_some();
        if is_json { quote!(.json(&body)) } else { quote!(.bytes(body)) }
    });
    let is_empty = !operation.success.is_struct() && operation.success.body.is_none();
    let (reply, output) = (if is_empty { quote!(_) } else { quote!(reply) }, output(operation));
    quote! {
        #signature {
            let call = Call::new(&#constant, &[#(#segments),*]) #caller #(#parameters)* #body;
            let #reply = self.peer.send(context, call).await?;
            #output
        }
    }
}

fn output(operation: &Operation) -> TokenStream {
    let success = &operation.success;
    let body = success.body.as_ref().map(|content| match content {
        Content::Json(_) => quote!(reply.json()?),
        Content::Bytes => quote!(reply.bytes()),
    });
    if !success.is_struct() {
        return body.map_or_else(|| quote!(Ok(())), |body| quote!(Ok(#body)));
    }
    let name = operation.response_name();
    let headers = success.headers.iter().map(|header| {
        let (ident, name) = (&header.ident, &header.name);
        if header.is_added { quote!(#ident: reply.added_header(#name),) } else { quote!(#ident: reply.header(#name)?,) }
    });
    let is_new = success.finds_or_creates().then(|| quote!(is_new: reply.is_new(),));
    let body = body.map(|body| quote!(body: #body,));
    quote!(Ok(#name { #is_new #(#headers)* #body }))
}
