//! The OpenAPI documents as a test oracle: whether an answer is one that the operation declares.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

/// One operation of a document.
#[derive(Debug, Clone)]
pub struct Operation {
    pub id: String,
    /// Upper case.
    pub method: String,
    /// The path with its parameters in braces, such as `/api/users/{id}`.
    pub path: String,
    /// Names of the accepted security schemes; `optional` if the operation also accepts a request without credentials.
    pub security: Vec<String>,
    /// Whether it takes JSON.
    pub has_body: bool,
    /// Name of the path parameter whose schema is an integer.
    pub integer_path_parameter: Option<String>,
    /// The part whose operation this is, such as `users`.
    pub part: &'static str,
    /// The path of the document.
    document: &'static str,
    responses: BTreeMap<u16, Value>,
}

/// All operations of all documents, of every version.
#[derive(Debug)]
pub struct Contract {
    documents: BTreeMap<&'static str, Value>,
    pub operations: Vec<Operation>,
}

impl Contract {
    /// Parses the documents from which the API crate is generated.
    pub fn load() -> Result<Self> {
        let mut contract = Self { documents: BTreeMap::new(), operations: Vec::new() };
        for (path, text) in flack_api::OPENAPI_DOCUMENTS {
            let mut document = serde_yaml_ng::from_str(text).with_context(|| format!("{path} is not YAML"))?;
            allow_null(&mut document);
            contract.add(path, document)?;
        }
        Ok(contract)
    }

    fn add(&mut self, path_of_document: &'static str, document: Value) -> Result<()> {
        // `.../users.v1.yaml` describes the part `users`.
        let part = path_of_document.rsplit('/').next().and_then(|file| file.split('.').next()).context("no part")?;
        let paths = document["paths"].as_object().context("a document without paths")?;
        for (path, item) in paths {
            for method in ["get", "put", "post", "delete"] {
                let Some(operation) = item.get(method) else { continue };
                let security = operation.get("security").unwrap_or(&document["security"]);
                let parameters = [&item["parameters"], &operation["parameters"]];
                self.operations.push(Operation {
                    id: operation["operationId"].as_str().context("an operation without a name")?.to_owned(),
                    method: method.to_uppercase(),
                    path: path.clone(),
                    security: security_names(security),
                    has_body: operation["requestBody"]["content"].get("application/json").is_some(),
                    integer_path_parameter: parameters
                        .iter()
                        .filter_map(|list| list.as_array())
                        .flatten()
                        .find(|p| p["in"] == "path" && p["schema"]["type"] == "integer")
                        .and_then(|p| p["name"].as_str())
                        .map(str::to_owned),
                    responses: responses(&document, operation)?,
                    part,
                    document: path_of_document,
                });
            }
        }
        self.documents.insert(path_of_document, document);
        Ok(())
    }

    /// Fails if an answer does not match its operation. A path outside the documents is not checked.
    pub fn check(&self, method: &str, path: &str, status: u16, content_type: &str, body: &Value) -> Result<()> {
        let path = path.split('?').next().unwrap_or(path);
        let Some(operation) = self.find(method, path) else { return Ok(()) };
        // The balancer may refuse any request with 429, before it reaches an operation.
        if status == 429 && !operation.responses.contains_key(&429) {
            ensure!(content_type == "application/problem+json", "{method} {path} answered 429 as {content_type:?}");
            return Ok(());
        }
        let Some(response) = operation.responses.get(&status) else {
            bail!("{} answered {status}, which it does not declare: {body}", operation.id)
        };
        let Some(content) = response["content"].as_object() else {
            ensure!(body.is_null(), "{} answered {status} with a body, and declares no body: {body}", operation.id);
            return Ok(());
        };
        let media = content.keys().next().map_or("", String::as_str);
        ensure!(
            media == "*/*" || content_type.starts_with(media),
            "{} answered {status} as {content_type:?}, and declares {media}",
            operation.id
        );
        if media.ends_with("json") {
            let mut schema = content[media]["schema"].clone();
            // References inside the schema point to the document's components.
            schema["components"] = self.documents[&operation.document]["components"].clone();
            let validator = jsonschema::validator_for(&schema).context("a schema is invalid")?;
            if let Err(error) = validator.validate(body) {
                bail!("{} answered {status} with {body}, which does not match its schema: {error}", operation.id);
            }
        }
        Ok(())
    }

    fn find(&self, method: &str, path: &str) -> Option<&Operation> {
        // A literal path is preferred to one with a parameter: `/api/users/me` is not `/api/users/{id}`.
        let candidates = || self.operations.iter().filter(move |operation| operation.method == method);
        candidates()
            .find(|operation| operation.path == path)
            .or_else(|| candidates().find(|operation| matches(&operation.path, path)))
    }
}

/// Writes `nullable`, which only OpenAPI 3.0 has, as JSON Schema does.
fn allow_null(schema: &mut Value) {
    if schema["nullable"] == true {
        schema["type"] = json!([schema["type"], "null"]);
    }
    match schema {
        Value::Object(members) => members.values_mut().for_each(allow_null),
        Value::Array(items) => items.iter_mut().for_each(allow_null),
        _ => {}
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(path).all(|(t, p)| t.starts_with('{') || *t == p)
}

fn security_names(security: &Value) -> Vec<String> {
    security
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .map(|scheme| scheme.keys().next().cloned().unwrap_or_else(|| "optional".to_owned()))
        .collect()
}

fn responses(document: &Value, operation: &Value) -> Result<BTreeMap<u16, Value>> {
    let declared = operation["responses"].as_object().context("an operation without responses")?;
    declared
        .iter()
        .map(|(status, response)| {
            let resolved = match response["$ref"].as_str() {
                Some(reference) => document.pointer(reference.trim_start_matches('#')).cloned().unwrap_or(json!({})),
                None => response.clone(),
            };
            Ok((status.parse()?, resolved))
        })
        .collect()
}
