//! Compares two versions of a JSON Schema, keyword by keyword. A keyword that it does not know, and that has
//! changed, counts as breaking.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::difference::{
    Change::{self, Narrower, Other, Wider},
    Differences, Role,
};

/// Keywords that do not change which values are valid.
const DESCRIPTIONS: &str =
    "$schema title description example examples deprecated x-secret x-pattern-description definitions";
/// A greater one accepts less.
const LOWER_LIMITS: [&str; 5] = ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"];
/// A smaller one accepts less.
const UPPER_LIMITS: [&str; 5] = ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"];

static NULL: Value = Value::Null;

/// Parts of one version by their names.
pub type Named<V> = BTreeMap<String, V>;

/// Both versions of one document, and what has been found.
pub struct Comparison<'a> {
    pub old: &'a Value,
    pub new: &'a Value,
    pub found: Differences,
    /// Pairs of references that were compared: a schema may contain itself, and Problem is used everywhere.
    done: BTreeSet<(String, String, Role)>,
}

impl<'a> Comparison<'a> {
    pub fn new(old: &'a Value, new: &'a Value) -> Self {
        Self { old, new, found: Differences::default(), done: BTreeSet::new() }
    }

    /// Compares what has the same name in both versions. What is removed is breaking, what is new is not. `place` is
    /// the start of each place, and `thing` is what has the name.
    pub fn pairs<V>(
        &mut self,
        place: &str,
        thing: &str,
        (old, new): (&Named<V>, &Named<V>),
        compare: impl Fn(&mut Self, &str, &V, &V),
    ) {
        self.pairs_and_new(place, thing, (old, new), compare, |_, _| false);
    }

    /// Like `pairs`, and `is_breaking` decides about what is new.
    pub fn pairs_and_new<V>(
        &mut self,
        place: &str,
        thing: &str,
        (old, new): (&Named<V>, &Named<V>),
        compare: impl Fn(&mut Self, &str, &V, &V),
        is_breaking: impl Fn(&str, &V) -> bool,
    ) {
        for (name, before) in old {
            let place = format!("{place}{name}");
            match new.get(name) {
                Some(after) => compare(self, &place, before, after),
                None => self.found.breaking(&place, format!("the {thing} is removed")),
            }
        }
        for (name, after) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
            let what = format!("the {thing} is new");
            self.found.add(&format!("{place}{name}"), what, is_breaking(name, after));
        }
    }

    pub fn schema(&mut self, place: &str, old: &'a Value, new: &'a Value, role: Role) {
        let names = (reference(old), reference(new));
        let place = names.1.or(names.0).map_or(place, |name| name.rsplit('/').next().unwrap_or(name));
        if let (Some(old), Some(new)) = names
            && !self.done.insert((old.to_owned(), new.to_owned(), role))
        {
            return;
        }
        let (old, new) = (resolve(self.old, old), resolve(self.new, new));
        if old != new && !(old.is_object() && new.is_object()) {
            self.found.breaking(place, "is another kind of schema, or its $ref has no target");
            return;
        }
        let keywords: BTreeSet<String> = members(old).into_keys().chain(members(new).into_keys()).collect();
        for keyword in keywords {
            if old[&keyword] != new[&keyword] || may_hold_references(&keyword) {
                self.keyword(place, &keyword, old, new, role);
            }
        }
    }

    fn keyword(&mut self, place: &str, keyword: &str, old: &'a Value, new: &'a Value, role: Role) {
        let (before, after) = (&old[keyword], &new[keyword]);
        let change = match keyword {
            _ if DESCRIPTIONS.split(' ').any(|known| known == keyword) => return,
            "x-personal-data" => {
                let what = format!("x-personal-data is {}, was {}", shown(after), shown(before));
                return self.found.harmless(place, what);
            }
            "properties" => return self.properties(place, old, new, role),
            "required" => return self.required(place, before, after, role),
            "enum" => return self.values(place, before, after, role),
            "oneOf" => return self.alternatives(place, before, after, role),
            "items" if before.is_object() && after.is_object() => {
                return self.schema(&format!("{place}[]"), before, after, role);
            }
            "additionalProperties" if before.is_object() && after.is_object() => {
                return self.schema(&format!("{place}.*"), before, after, role);
            }
            "additionalProperties" if is_open(before) && is_open(after) => return,
            "additionalProperties" => openness(before, after),
            "type" | "format" => kind(before, after),
            "nullable" => flag(after, Wider),
            "uniqueItems" => flag(after, Narrower),
            _ if LOWER_LIMITS.contains(&keyword) => limit(before, after, Narrower, Wider),
            _ if UPPER_LIMITS.contains(&keyword) => limit(before, after, Wider, Narrower),
            "pattern" | "multipleOf" if before.is_null() => Narrower,
            "pattern" | "multipleOf" if after.is_null() => Wider,
            _ => Other,
        };
        let what = format!("{keyword} is {}, was {}", shown(after), shown(before));
        if before != after {
            self.found.add(place, what, role.is_broken_by(change));
        }
    }

    fn properties(&mut self, place: &str, old: &'a Value, new: &'a Value, role: Role) {
        let was_closed = old["additionalProperties"] == false;
        self.pairs_and_new(
            &format!("{place}."),
            // A removed one is breaking in a request too: the server would ignore it, which the client does not expect.
            "property",
            (&members(&old["properties"]), &members(&new["properties"])),
            |comparison, place, old, new| comparison.schema(place, old, new, role),
            |_, _| role == Role::Read && was_closed,
        );
    }

    fn required(&mut self, place: &str, before: &Value, after: &Value, role: Role) {
        let (before, after) = (texts(before), texts(after));
        for name in after.difference(&before) {
            self.found.add(&format!("{place}.{name}"), "is required now", role.is_broken_by(Narrower));
        }
        for name in before.difference(&after) {
            self.found.add(&format!("{place}.{name}"), "is optional now", role.is_broken_by(Wider));
        }
    }

    fn values(&mut self, place: &str, before: &Value, after: &Value, role: Role) {
        let (Some(old), Some(new)) = (before.as_array(), after.as_array()) else {
            let change = if before.is_null() { Narrower } else { Wider };
            let what = format!("enum is {}, was {}", shown(after), shown(before));
            return self.found.add(place, what, role.is_broken_by(change));
        };
        for value in old.iter().filter(|value| !new.contains(value)) {
            self.found.add(place, format!("the value {value} is removed"), role.is_broken_by(Narrower));
        }
        for value in new.iter().filter(|value| !old.contains(value)) {
            self.found.add(place, format!("the value {value} is new"), role.is_broken_by(Wider));
        }
    }

    /// Compares unions with the discriminator `type`. Consumers ignore an unknown type (asyncapi/events.v1.yaml), so a
    /// new alternative is not breaking.
    fn alternatives(&mut self, place: &str, before: &'a Value, after: &'a Value, role: Role) {
        let (Some(old), Some(new)) = (tagged(before), tagged(after)) else {
            if before != after {
                self.found.breaking(place, "oneOf has changed, and its alternatives have no `type`");
            }
            return;
        };
        self.pairs(&format!("{place} "), "alternative", (&old, &new), |comparison, place, old, new| {
            comparison.schema(place, old, new, role);
        });
    }
}

fn may_hold_references(keyword: &str) -> bool {
    matches!(keyword, "properties" | "items" | "additionalProperties" | "oneOf")
}

fn kind(before: &Value, after: &Value) -> Change {
    match (before.as_str(), after.as_str()) {
        (None, Some(_)) if before.is_null() => Narrower,
        (Some(_), None) if after.is_null() => Wider,
        (Some("integer"), Some("number")) | (Some("int32"), Some("int64")) => Wider,
        (Some("number"), Some("integer")) | (Some("int64"), Some("int32")) => Narrower,
        _ => Other,
    }
}

/// Whether `additionalProperties` allows everything. Absent is the same as `true`.
fn is_open(value: &Value) -> bool {
    value.is_null() || value == &Value::Bool(true)
}

fn openness(before: &Value, after: &Value) -> Change {
    if is_open(after) || before == &Value::Bool(false) { Wider } else { Narrower }
}

fn flag(after: &Value, when_set: Change) -> Change {
    match (after == &Value::Bool(true), when_set) {
        (true, change) => change,
        (false, Wider) => Narrower,
        (false, _) => Wider,
    }
}

fn limit(before: &Value, after: &Value, greater: Change, smaller: Change) -> Change {
    match (before.as_f64(), after.as_f64()) {
        (Some(before), Some(after)) if after > before => greater,
        (Some(_), Some(_)) => smaller,
        // OpenAPI 3.0 has exclusiveMinimum as a flag.
        _ if before.is_boolean() || after.is_boolean() => flag(after, Narrower),
        (None, Some(_)) => Narrower,
        (Some(_), None) => Wider,
        (None, None) => Other,
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()
}

/// Follows `$ref` inside its document. Returns null when the target does not exist.
pub fn resolve<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    while let Some(reference) = reference(value) {
        value = reference.strip_prefix('#').and_then(|path| document.pointer(path)).unwrap_or(&NULL);
    }
    value
}

/// Returns the members of an object, and none of another value.
pub fn members(value: &Value) -> Named<&Value> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value)).collect()
}

fn texts(value: &Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Returns the alternatives by the value of their `type`, or none when one has no such value.
fn tagged(alternatives: &Value) -> Option<Named<&Value>> {
    let tag = |alternative| Some(Value::pointer(alternative, "/properties/type/enum/0")?.as_str()?.to_owned());
    alternatives.as_array()?.iter().map(|alternative| Some((tag(alternative)?, alternative))).collect()
}

fn shown(value: &Value) -> String {
    if value.is_null() { "absent".to_owned() } else { value.to_string() }
}
