//! The OpenAPI document, made from the table of endpoints.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::limits::LIMITS;
use crate::route::{Row, TABLE};

/// Serves the document.
pub(crate) async fn serve() -> Json<Value> {
    Json(document())
}

/// The document.
fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for row in TABLE {
        for path in spellings(row) {
            let item = paths.entry(path.clone()).or_insert_with(|| json!({}));
            let parameters = parameters(&path);
            if let Value::Object(item) = item {
                item.entry(row.method.as_str().to_lowercase()).or_insert_with(|| operation(row, &parameters));
            }
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Keevo feeds",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Activity feeds over HTTP. Paths are taken with and without a slash at the end.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": { "type": "apiKey", "in": "query", "name": "api_key" },
                "token": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "A JSON Web Token signed by HS256 with the key's secret",
                },
            },
            "schemas": { "Error": error_schema() },
        },
        "security": [{ "key": [], "token": [] }],
    })
}

/// One path per combination of literals.
fn spellings(row: &Row) -> Vec<String> {
    let mut paths = vec![format!("/{}/v1.0", row.service)];
    for part in row.path.split('/') {
        let literals: Vec<String> = part.split('|').map(|one| one.replace("*}", "}")).collect();
        paths = paths.iter().flat_map(|path| literals.iter().map(move |literal| format!("{path}/{literal}"))).collect();
    }
    paths.into_iter().map(|path| format!("{path}/")).collect()
}

fn parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })).collect()
}

fn operation(row: &Row, parameters: &[Value]) -> Value {
    let limit = LIMITS.iter().find(|(limit, ..)| *limit == row.limit);
    let limit = limit.map_or_else(String::new, |(_, name, per_minute)| format!("{name}: {per_minute} a minute"));
    let mut operation = json!({
        "summary": row.summary,
        "operationId": format!("{:?}", row.op),
        "tags": [row.resource.replace('*', "other")],
        "x-rate-limit": limit,
        "parameters": parameters,
        "responses": {
            "2XX": { "description": "An object that holds `duration`", "content": { "application/json": {} } },
            "default": {
                "description": "An error",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            },
        },
    });
    let takes_body = matches!(row.method.as_str(), "POST" | "PUT");
    if let (true, Value::Object(operation)) = (takes_body, &mut operation) {
        let kind = if matches!(row.path, "files" | "images") { "multipart/form-data" } else { "application/json" };
        operation.insert("requestBody".to_owned(), json!({ "content": { kind: {} } }));
    }
    operation
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["detail", "status_code", "code", "exception", "duration", "more_info"],
        "properties": {
            "detail": { "type": "string" },
            "status_code": { "type": "integer" },
            "code": { "type": "integer" },
            "exception": { "type": "string" },
            "duration": { "type": "string" },
            "more_info": { "type": "string" },
            "exception_fields": { "type": "object" },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_in_the_document() {
        let document = document();
        let paths = document.get("paths").and_then(Value::as_object).expect("paths");
        for row in TABLE {
            for path in spellings(row) {
                let method = row.method.as_str().to_lowercase();
                assert!(paths.get(&path).is_some_and(|item| item.get(&method).is_some()), "{method} {path}");
                assert!(!path.contains('*') && !path.contains('|'), "{path}");
            }
        }
        let follow = paths.get("/api/v1.0/feed/{slug}/{id}/following/").and_then(|item| item.get("delete"));
        assert!(follow.is_none(), "the target is part of that path");
    }
}
