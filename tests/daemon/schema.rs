//! As much of JSON Schema as our schemas use.

use serde_json::Value;

/// What is wrong with `value`, by its place; empty if it is as `schema` says.
pub(crate) fn complaints(root: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(root, schema, value, "$", &mut found);
    found
}

fn check(root: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).expect("a definition");
        return check(root, target, value, place, found);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fits = choices.iter().filter(|choice| complaints(root, choice, value).is_empty());
        if fits.count() != 1 {
            found.push(format!("{place} fits not one of the choices: {value}"));
        }
        return;
    }
    if schema.get("const").is_some_and(|only| only != value) {
        found.push(format!("{place} is {value}"));
    }
    if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
        found.push(format!("{place} is {value}"));
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("string") => value.is_string(),
        Some(other) => panic!("{other} is not known here"),
        None => true,
    };
    if !fits {
        found.push(format!("{place} is {value}"));
    }
    for (k, item) in value.as_array().into_iter().flatten().enumerate() {
        check(root, &schema["items"], item, &format!("{place}[{k}]"), found);
    }
    let Some(members) = value.as_object() else { return };
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(key) {
            found.push(format!("{place}.{key} is missing"));
        }
    }
    for (key, member) in members {
        match schema["properties"].get(key) {
            Some(property) => check(root, property, member, &format!("{place}.{key}"), found),
            None if schema["additionalProperties"] == Value::Bool(false) => {
                found.push(format!("{place}.{key} is unknown"));
            }
            None => {}
        }
    }
}

/// What the schema describes and none of the values has, by its place.
pub(crate) fn unseen(root: &Value, schema: &Value, values: &[&Value]) -> Vec<String> {
    let mut found = Vec::new();
    look(root, schema, values, "$", &mut found);
    found
}

fn look(root: &Value, schema: &Value, values: &[&Value], place: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).expect("a definition");
        return look(root, target, values, place, found);
    }
    if values.is_empty() {
        found.push(place.to_owned());
        return;
    }
    for (k, choice) in schema["oneOf"].as_array().into_iter().flatten().enumerate() {
        let fits = |value: &&&Value| complaints(root, choice, value).is_empty();
        let fitting: Vec<_> = values.iter().filter(fits).copied().collect();
        look(root, choice, &fitting, &format!("{place}|{k}"), found);
    }
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let members: Vec<_> = values.iter().filter_map(|value| value.get(key)).collect();
        look(root, property, &members, &format!("{place}.{key}"), found);
    }
    if let Some(items) = schema.get("items") {
        let lists = values.iter().filter_map(|value| value.as_array());
        let members: Vec<_> = lists.flatten().collect();
        look(root, items, &members, &format!("{place}[]"), found);
    }
}
