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
const SCHEMAS: [&str; 3] = ["frames", "frames.v2", "events"];

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
        write(&schema.replace('.', "_"), types.map_err(|problem| format!("api/{path}: {problem}"))?)?;
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
    let names: Vec<&str> = documents.iter().map(|document| document.module.as_str()).collect();
    let modules: Vec<_> = names.iter().map(|name| format_ident!("{name}")).collect();
    let clients = names.iter().map(|name| format_ident!("{}Client", name.to_pascal_case()));
    let [code, mocks] = ["", "_mock"].map(|suffix| names.iter().map(move |name| format!("/{name}{suffix}.rs")));
    let paths = documents.iter().map(|document| format!("/api/docs/{OPENAPI}/{}", document.file_name));
    quote! {
        #[cfg(feature = "mock")]
        use super::*;

        #(pub mod #modules {
            include!(concat!(env!("OUT_DIR"), #code));
            #[cfg(feature = "mock")]
            pub mod mock { include!(concat!(env!("OUT_DIR"), #mocks)); }
        })*

        /// Every OpenAPI document: the path that serves it, and its text.
        pub static OPENAPI_DOCUMENTS: &[(&str, &str)] = &[#((#paths, #modules::DOCUMENT)),*];

        /// A router that sends every operation of every service to `base_url`. For tests.
        #[cfg(feature = "mock")]
        pub fn forward_everything(
            base_url: &str,
            http: &reqwest::Client,
            verify: &Arc<dyn VerifyToken>,
        ) -> axum::Router {
            axum::Router::new()
                #(.merge(#modules::router(
                    Arc::new(#modules::#clients::new(base_url, http.clone())),
                    Arc::clone(verify),
                )))*
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
