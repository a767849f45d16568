//! Compares two versions of an OpenAPI document: requests and responses.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    difference::Role,
    schema::{Comparison, Named, members, resolve},
};

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];
/// Members of an operation that are compared here, or that clients do not depend on.
const KNOWN: &str = "operationId summary description tags deprecated x-page security parameters requestBody responses";

/// One operation with the parameters of its path and the security of its document.
struct Operation<'a> {
    own: &'a Value,
    parameters: Named<&'a Value>,
    security: BTreeSet<String>,
}

pub fn compare(comparison: &mut Comparison<'_>) {
    let (old, new) = (operations(comparison.old), operations(comparison.new));
    comparison.pairs("", "operation", (&old, &new), operation);
    schemes(comparison);
}

fn operations(document: &Value) -> Named<Operation<'_>> {
    let mut operations = Named::new();
    for (path, item) in members(&document["paths"]) {
        for method in METHODS.iter().filter(|method| item.get(**method).is_some()) {
            let own = &item[*method];
            let lists = [&item["parameters"], &own["parameters"]];
            let parameters = lists.into_iter().filter_map(Value::as_array).flatten();
            let parameters = parameters.map(|parameter| {
                let parameter = resolve(document, parameter);
                let word = |name: &str| parameter[name].as_str().unwrap_or_default().to_owned();
                let name = if word("in") == "header" { word("name").to_lowercase() } else { word("name") };
                (format!("{} parameter {name}", word("in")), parameter)
            });
            let security = own.get("security").unwrap_or(&document["security"]).as_array();
            let operation = Operation {
                own,
                parameters: parameters.collect(),
                // No requirement at all is the same as the empty one.
                security: match security.map(Vec::as_slice) {
                    None | Some([]) => BTreeSet::from(["{}".to_owned()]),
                    Some(schemes) => schemes.iter().map(Value::to_string).collect(),
                },
            };
            operations.insert(format!("{} {path}", method.to_uppercase()), operation);
        }
    }
    operations
}

fn operation<'a>(comparison: &mut Comparison<'a>, name: &str, old: &Operation<'a>, new: &Operation<'a>) {
    if old.own["operationId"] != new.own["operationId"] {
        let what = format!("its operationId is {}, was {}", new.own["operationId"], old.own["operationId"]);
        comparison.found.breaking(name, what);
    }
    for key in members(old.own).keys().chain(members(new.own).keys()) {
        if KNOWN.split(' ').all(|known| known != key) && old.own[key] != new.own[key] {
            comparison.found.breaking(name, format!("{key} has changed, which this test cannot judge"));
        }
    }
    if new.security.contains("{}") && !old.security.contains("{}") {
        comparison.found.harmless(name, "needs no credentials now");
    } else {
        for gone in old.security.difference(&new.security) {
            comparison.found.breaking(name, format!("security {gone} is no longer enough"));
        }
        for more in new.security.difference(&old.security) {
            comparison.found.harmless(name, format!("security {more} is enough now"));
        }
    }
    comparison.pairs_and_new(
        &format!("{name} "),
        "parameter",
        (&old.parameters, &new.parameters),
        |comparison, place, old, new| parameter(comparison, place, old, new),
        |_, parameter| parameter["required"] == true,
    );
    body(comparison, name, &old.own["requestBody"], &new.own["requestBody"]);
    let responses = (&members(&old.own["responses"]), &members(&new.own["responses"]));
    // Clients treat an unknown error status as the first of its class. Another status of success has another meaning.
    comparison.pairs_and_new(
        &format!("{name} "),
        "status",
        responses,
        |comparison, place, old, new| answer(comparison, place, old, new),
        |status, _| !status.starts_with(['4', '5']),
    );
}

fn parameter<'a>(comparison: &mut Comparison<'a>, place: &str, old: &'a Value, new: &'a Value) {
    necessity(comparison, place, old, new, Role::Written);
    for word in ["style", "explode", "allowReserved", "content"] {
        if old[word] != new[word] {
            comparison.found.breaking(place, format!("{word} has changed"));
        }
    }
    comparison.schema(place, &old["schema"], &new["schema"], Role::Written);
}

fn body<'a>(comparison: &mut Comparison<'a>, name: &str, old: &'a Value, new: &'a Value) {
    let place = format!("{name} body");
    let (old, new) = (resolve(comparison.old, old), resolve(comparison.new, new));
    match (old.is_null(), new.is_null()) {
        (true, true) => {}
        (true, false) => comparison.found.add(&place, "the body is new", new["required"] == true),
        (false, true) => comparison.found.breaking(&place, "the body is removed"),
        (false, false) => {
            necessity(comparison, &place, old, new, Role::Written);
            content(comparison, &place, old, new, Role::Written);
        }
    }
}

fn answer<'a>(comparison: &mut Comparison<'a>, place: &str, old: &'a Value, new: &'a Value) {
    let (old, new) = (resolve(comparison.old, old), resolve(comparison.new, new));
    content(comparison, place, old, new, Role::Read);
    let headers = (&members(&old["headers"]), &members(&new["headers"]));
    comparison.pairs(&format!("{place} header "), "header", headers, |comparison, place, old, new| {
        necessity(comparison, place, old, new, Role::Read);
        comparison.schema(place, &old["schema"], &new["schema"], Role::Read);
    });
}

fn content<'a>(comparison: &mut Comparison<'a>, place: &str, old: &'a Value, new: &'a Value, role: Role) {
    let types = (&members(&old["content"]), &members(&new["content"]));
    comparison.pairs(&format!("{place} "), "media type", types, |comparison, _, old, new| {
        comparison.schema(place, &old["schema"], &new["schema"], role);
    });
}

fn necessity(comparison: &mut Comparison<'_>, place: &str, old: &Value, new: &Value, role: Role) {
    match (old["required"] == true, new["required"] == true) {
        (false, true) => comparison.found.add(place, "is required now", role == Role::Written),
        (true, false) => comparison.found.add(place, "is optional now", role == Role::Read),
        _ => {}
    }
}

fn schemes(comparison: &mut Comparison<'_>) {
    let at = "/components/securitySchemes";
    let (old, new) = (comparison.old.pointer(at), comparison.new.pointer(at));
    for (name, scheme) in old.map(members).unwrap_or_default() {
        if new.and_then(|schemes| schemes.get(&name)) != Some(scheme) {
            comparison.found.breaking(&format!("security {name}"), "is done in another way");
        }
    }
}
