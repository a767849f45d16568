//! Reads and checks a document of `openapi/`. The rest of `build/` uses the result.

use heck::ToSnakeCase;
use openapiv3::{
    OpenAPI, Parameter as OpenApiParameter, ParameterSchemaOrContent, PathItem, ReferenceOr, RequestBody, Response,
    SecurityRequirement, StatusCode,
};
use quote::{format_ident, quote};

use crate::{
    operation::{Body, Content, Header, Operation, Parameter, Place, Security, Success, type_of},
    schema::{component_name, parameter_type},
    shapes::shape,
};

pub const JSON: &str = "application/json";
/// The content of a file in a request.
pub const BYTES: &str = "application/octet-stream";
/// The content of a file in a response, whose headers have its type.
pub const ANY: &str = "*/*";
pub const PROBLEM_JSON: &str = "application/problem+json";

pub struct Document {
    /// Such as `users`.
    pub service: String,
    /// Name of the generated module: the service's name for version 1, such as `users_v2` for later ones.
    pub module: String,
    pub file_name: String,
    pub openapi: OpenAPI,
    /// Without pages (`x-page`), which are only documented.
    pub operations: Vec<Operation>,
}

impl Document {
    /// `file_name` is `<service>.<version>.yaml`.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, String> {
        let [service, version, "yaml"] = *file_name.split('.').collect::<Vec<_>>() else {
            return Err("the file's name must be <service>.<version>.yaml".to_owned());
        };
        let module = if version == "v1" { service.to_owned() } else { format!("{service}_{version}") };
        let openapi: OpenAPI = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
        let (service, file_name) = (service.to_owned(), file_name.to_owned());
        let mut document = Self { service, module, file_name, openapi, operations: Vec::new() };
        let mut operations = Vec::new();
        for (path, item) in &document.openapi.paths.paths {
            let ReferenceOr::Item(item) = item else {
                return Err(format!("{path}: paths cannot be references"));
            };
            for (method, operation) in item.iter() {
                if operation.extensions.get("x-page") == Some(&serde_json::Value::Bool(true)) {
                    continue;
                }
                let id = operation.operation_id.as_deref();
                let id = id.ok_or(format!("{method} {path}: operationId is missing"))?;
                let operation = document.operation(id, method, path, item, operation);
                operations.push(operation.map_err(|problem| format!("{id}: {problem}"))?);
            }
        }
        document.operations = operations;
        Ok(document)
    }

    fn operation(
        &self,
        id: &str,
        method: &str,
        path: &str,
        item: &PathItem,
        operation: &openapiv3::Operation,
    ) -> Result<Operation, String> {
        if id != id.to_snake_case() {
            return Err("write the operationId in snake_case: it becomes the name of a method".to_owned());
        }
        let mut parameters = Vec::new();
        for parameter in item.parameters.iter().chain(&operation.parameters) {
            parameters.push(self.parameter(id, parameter)?);
        }
        parameters.sort_by_key(|parameter| parameter.place as u8);
        let body = operation.request_body.as_ref().map(|body| self.body(body)).transpose()?;
        let security = self.security(operation.security.as_ref())?;
        let (success, statuses) = self.answers(operation)?;
        let mut needed = Vec::new();
        if body.is_some() {
            needed.extend([400, 413, 415]);
        }
        if !parameters.is_empty() {
            needed.push(400);
        }
        if security != Security::None {
            needed.extend([401, 503]);
        }
        // A layer limits the writes of each user.
        if security == Security::Token && method != "get" {
            needed.push(429);
        }
        match needed.into_iter().find(|status| !statuses.contains(status)) {
            Some(status) => Err(format!("the router can respond with {status}; declare it")),
            None => Ok(Operation {
                id: format_ident!("{id}"),
                summary: operation.summary.clone().ok_or("the summary is missing")?,
                method: method.to_owned(),
                path: path.to_owned(),
                security,
                parameters,
                body,
                success,
                statuses,
            }),
        }
    }

    fn parameter(&self, operation: &str, parameter: &ReferenceOr<OpenApiParameter>) -> Result<Parameter, String> {
        let parameter = parameter.as_item().ok_or("parameters cannot be references")?;
        let data = parameter.parameter_data_ref();
        let name = data.name.clone();
        let place = match parameter {
            OpenApiParameter::Path { .. } => Place::Path,
            OpenApiParameter::Query { .. } => Place::Query,
            OpenApiParameter::Header { .. } => Place::Header,
            OpenApiParameter::Cookie { .. } => return Err(format!("{name}: cookies are not used")),
        };
        let ParameterSchemaOrContent::Schema(schema) = &data.format else {
            return Err(format!("{name}: a parameter needs a schema"));
        };
        let ident = name.to_snake_case();
        let type_name = format!("{operation}_{ident}");
        let in_parameter = |problem| format!("parameter {name}: {problem}");
        let rust_type = parameter_type(&type_name, schema).map_err(in_parameter)?;
        let shape = shape(&self.openapi, &type_name, schema, &[]).map_err(in_parameter)?;
        Ok(Parameter { place, ident: format_ident!("{ident}"), required: data.required, rust_type, shape, name })
    }

    fn body(&self, body: &ReferenceOr<RequestBody>) -> Result<Body, String> {
        let body = body.as_item().ok_or("request bodies cannot be references")?;
        if body.required && body.content.keys().eq([BYTES]) {
            return Ok(Body { rust_type: quote!(Bytes), shape: None });
        }
        if !body.required || body.content.keys().ne([JSON]) {
            return Err(format!("a request body is required, and {JSON} or {BYTES}"));
        }
        let schema = body.content[JSON].schema.as_ref().ok_or("a body needs a schema")?;
        let rust_type = type_of(&component_name(Some(schema))?);
        Ok(Body { rust_type, shape: Some(shape(&self.openapi, "", schema, &[])?) })
    }

    fn security(&self, own: Option<&Vec<SecurityRequirement>>) -> Result<Security, String> {
        let requirements =
            own.or(self.openapi.security.as_ref()).ok_or("neither the operation nor the document has `security`")?;
        let schemes = requirements.iter().map(|requirement| requirement.keys().map(String::as_str).collect());
        match schemes.collect::<Vec<String>>().iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] => Ok(Security::None),
            ["bearer"] => Ok(Security::Token),
            ["bearer", ""] => Ok(Security::OptionalToken),
            ["basic"] => Ok(Security::Basic),
            other => {
                Err(format!("security {other:?} is not enforced by the router; use bearer, basic or bearer with {{}}"))
            }
        }
    }

    fn answers(&self, operation: &openapiv3::Operation) -> Result<(Success, Vec<u16>), String> {
        let mut success: Option<Success> = None;
        let mut statuses = Vec::new();
        for (status, response) in &operation.responses.responses {
            let StatusCode::Code(status) = status else {
                return Err(format!("{status}: declare single status codes"));
            };
            let response = self.response(response)?;
            statuses.push(*status);
            if *status >= 400 {
                if !response.headers.is_empty() || response.content.keys().ne([PROBLEM_JSON]) {
                    return Err(format!("{status}: errors are {PROBLEM_JSON} and declare no headers"));
                }
                continue;
            }
            let read = read_success(*status, response)?;
            match &mut success {
                None => success = Some(read),
                Some(found) if (&found.headers, &found.body) == (&read.headers, &read.body) => {
                    found.statuses.extend(read.statuses);
                }
                Some(_) => return Err("the statuses of success have other headers or bodies".to_owned()),
            }
        }
        if success.as_ref().is_some_and(|success| success.finds_or_creates() && success.statuses != [200, 201]) {
            return Err("two statuses of success are 200 (found) and 201 (created), in this order".to_owned());
        }
        Ok((success.ok_or("no status of success is declared")?, statuses))
    }

    fn response<'a>(&'a self, response: &'a ReferenceOr<Response>) -> Result<&'a Response, String> {
        match response {
            ReferenceOr::Item(response) => Ok(response),
            ReferenceOr::Reference { reference } => reference
                .strip_prefix("#/components/responses/")
                .and_then(|name| self.openapi.components.as_ref()?.responses.get(name)?.as_item())
                .ok_or_else(|| format!("{reference} does not exist")),
        }
    }
}

fn read_success(status: u16, response: &Response) -> Result<Success, String> {
    let body = match response.content.first() {
        None => None,
        Some((kind, content)) if kind == JSON && response.content.len() == 1 => {
            Some(Content::Json(component_name(content.schema.as_ref())?))
        }
        Some((kind, _)) if kind == ANY && response.content.len() == 1 => Some(Content::Bytes),
        Some((kind, _)) => return Err(format!("the media type {kind} is for pages only (x-page)")),
    };
    let mut headers = Vec::new();
    for (name, header) in &response.headers {
        let Some(header) = header.as_item().filter(|header| header.required) else {
            return Err(format!("{name}: a header of a response is required and no reference"));
        };
        let ident = format_ident!("{}", name.to_snake_case());
        let is_added = header.extensions.get("x-added") == Some(&serde_json::Value::Bool(true));
        headers.push(Header { name: name.to_ascii_lowercase(), ident, is_added });
    }
    Ok(Success { statuses: vec![status], headers, body })
}
