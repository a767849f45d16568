//! Generates Rust from `openapi/` and `schemas/`. `document.rs` reads a document; every other file generates one
//! thing. The build fails for a keyword that the generated code would not enforce.

mod client;
mod document;
mod layer;
mod operation;
mod schema;
mod server;
mod shapes;
mod swagger;
mod types;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use heck::ToPascalCase;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use document::Document;

const OPENAPI: &str = "openapi";
const SCHEMAS: [&str; 2] = ["frames", "events"];

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed={OPENAPI}");
    match generate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn generate() -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<_> =
        fs::read_dir(OPENAPI)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    let mut documents = Vec::new();
    for path in &paths {
        documents.push(api(path).map_err(|problem| format!("api/{}: {problem}", path.display()))?);
    }
    write("services", services(&documents))?;
    write("swagger_ui", swagger::generate(&out_dir()?)?)?;
    for schema in SCHEMAS {
        let path = format!("schemas/{schema}.schema.json");
        println!("cargo:rerun-if-changed={path}");
        let types = types::from_json_schema(&fs::read_to_string(&path)?);
        write(schema, types.map_err(|problem| format!("api/{path}: {problem}"))?)?;
    }
    Ok(())
}

fn api(path: &Path) -> Result<Document, Box<dyn Error>> {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let document = Document::parse(&file_name, &fs::read_to_string(path)?)?;
    let (types, mock) = types::from_openapi(&document)?;
    let server = server::generate(&document);
    let client = client::generate(&document);
    let layer = layer::generate(&document);
    let path = format!("/{OPENAPI}/{file_name}");
    write(
        &document.module,
        quote! {
            #types
            #server
            #client
            #layer

            /// The OpenAPI document that this module is generated from.
            pub const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), #path));
        },
    )?;
    write(&format!("{}_mock", document.module), mock)?;
    Ok(document)
}

/// One module for each document, and what lists all of them.
fn services(documents: &[Document]) -> TokenStream {
    let modules = documents.iter().map(|document| {
        let module = format_ident!("{}", document.module);
        let [code, mock] = ["", "_mock"].map(|suffix| format!("/{module}{suffix}.rs"));
        quote! {
            pub mod #module {
                include!(concat!(env!("OUT_DIR"), #code));
                #[cfg(feature = "mock")]
                pub mod mock { include!(concat!(env!("OUT_DIR"), #mock)); }
            }
        }
    });
    let texts = documents.iter().map(|document| {
        let path = format!("/api/docs/{OPENAPI}/{}", document.file_name);
        let module = format_ident!("{}", document.module);
        quote!((#path, #module::DOCUMENT))
    });
    let forwards = documents.iter().map(|document| {
        let module = format_ident!("{}", document.module);
        let client = format_ident!("{}Client", document.module.to_pascal_case());
        quote! {
            .merge(#module::router(Arc::new(#module::#client::new(base_url, http.clone())), Arc::clone(verify)))
        }
    });
    quote! {
        #[cfg(feature = "mock")]
        use super::*;

        #(#modules)*

        /// Every OpenAPI document: the path that serves it, and its text.
        pub static OPENAPI_DOCUMENTS: &[(&str, &str)] = &[#(#texts),*];

        /// A router that sends every operation of every service to `base_url`. For tests.
        #[cfg(feature = "mock")]
        pub fn forward_everything(
            base_url: &str,
            http: &reqwest::Client,
            verify: &Arc<dyn VerifyToken>,
        ) -> axum::Router {
            axum::Router::new() #(#forwards)*
        }
    }
}

/// Writes formatted code: compiler messages point to it.
fn write(module: &str, tokens: TokenStream) -> Result<(), Box<dyn Error>> {
    let text = prettyplease::unparse(&syn::parse2(tokens)?);
    Ok(fs::write(out_dir()?.join(format!("{module}.rs")), text)?)
}

#[expect(clippy::disallowed_methods, reason = "OUT_DIR comes from cargo; it is not configuration")]
fn out_dir() -> Result<PathBuf, env::VarError> {
    env::var("OUT_DIR").map(PathBuf::from)
}
