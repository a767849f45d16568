//! Makes Rust out of `openapi/` and `schemas/`: read `document.rs` for what a document may say, then one
//! file for each thing that is made. Whatever the generator would not enforce fails the build.

mod client;
mod document;
mod operation;
mod schema;
mod server;
mod shapes;
mod types;

use std::{env, error::Error, fs, path::Path, process::ExitCode};

use proc_macro2::TokenStream;
use quote::quote;

use document::Document;

/// One module each, named as the service that owns it.
const MODULES: [&str; 4] = ["users", "tokens", "messages", "ui"];
const SCHEMAS: [&str; 2] = ["frames", "events"];

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=build");
    let outcome = MODULES
        .iter()
        .map(|module| (format!("openapi/{module}.v1.yaml"), *module, api as Make))
        .chain(
            SCHEMAS.iter().map(|module| (format!("schemas/{module}.schema.json"), *module, schema as Make)),
        )
        .try_for_each(|(path, module, make)| {
            println!("cargo:rerun-if-changed={path}");
            make(module, &path).map_err(|problem| format!("api/{path}: {problem}"))
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

type Make = fn(module: &str, path: &str) -> Result<(), Box<dyn Error>>;

fn api(module: &str, path: &str) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let document = Document::parse(module, &text)?;
    let (types, mock) = types::from_openapi(&document)?;
    let shapes = shapes::generate(&document)?;
    let server = server::generate(&document);
    let client = client::generate(&document);
    let path_of_document = format!("/{path}");
    write(
        module,
        quote! {
            #types
            #shapes
            #server
            #client

            /// The OpenAPI document that this module is made from.
            pub const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), #path_of_document));
        },
    )?;
    write(&format!("{module}_mock"), mock)
}

fn schema(module: &str, path: &str) -> Result<(), Box<dyn Error>> {
    write(module, types::from_json_schema(&fs::read_to_string(path)?)?)
}

/// Formatted, because people read it when an error message points there.
fn write(module: &str, tokens: TokenStream) -> Result<(), Box<dyn Error>> {
    #[expect(clippy::disallowed_methods, reason = "it comes from cargo and is no configuration")]
    let folder = env::var("OUT_DIR")?;
    let text = prettyplease::unparse(&syn::parse2(tokens)?);
    Ok(fs::write(Path::new(&folder).join(format!("{module}.rs")), text)?)
}
