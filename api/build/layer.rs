//! The decorator: `Layered` implements the API trait and passes each operation to its layer (`src/layer.rs`).

use proc_macro2::TokenStream;
use quote::quote;

use crate::{
    document::Document,
    operation::{Operation, Security},
    server::trait_name,
};

pub fn generate(document: &Document) -> TokenStream {
    let api = trait_name(document);
    let methods = document.operations.iter().map(method);
    quote! {
        #[async_trait::async_trait]
        impl<L: Layer<dyn #api>> #api for Layered<dyn #api, L> { #(#methods)* }
    }
}

fn method(operation: &Operation) -> TokenStream {
    let (signature, id, constant) = (operation.signature(), &operation.id, operation.constant());
    let (arguments, _) = operation.arguments();
    let user_id = match operation.security {
        Security::Token => quote!(Some(caller.user_id)),
        Security::OptionalToken => quote!(caller.as_ref().map(|caller| caller.user_id)),
        Security::None | Security::Basic => quote!(None),
    };
    quote! {
        #signature {
            self.call(&#constant, context, #user_id, move |api, context| {
                #(let #arguments = Clone::clone(&#arguments);)*
                Box::pin(async move { api.#id(&context, #(#arguments),*).await })
            })
            .await
        }
    }
}
