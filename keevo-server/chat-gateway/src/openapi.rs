//! The OpenAPI document, made from the table of endpoints.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::field::Field;
use crate::members;
use crate::route::{Does, Row, Who};
use crate::serve::PREFIX;
use crate::table::TABLE;

/// Serves the document.
pub(crate) async fn serve() -> Json<Value> {
    Json(document())
}

/// The document.
fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for row in TABLE {
        let path = format!("{PREFIX}/{}", row.path);
        if let Value::Object(item) = paths.entry(path).or_insert_with(|| json!({})) {
            item.insert(row.method.as_str().to_lowercase(), operation(row));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Keevo chat",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Chat over HTTP. docs/CHAT-API.md describes the objects of answers, and the socket at /chat/v1/connect.",
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
            "schemas": { "Error": error_schema(), "NewMember": object(members::FIELDS) },
        },
        "security": [{ "key": [], "token": [] }],
    })
}

fn operation(row: &Row) -> Value {
    let named = row.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = named.map(
        |name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } }),
    );
    let in_query = row.params.iter().map(
        |field| json!({ "name": field.name, "in": "query", "required": field.required, "schema": field.kind.schema() }),
    );
    let user = json!({
        "name": "user_id", "in": "query", "required": false, "schema": { "type": "string" },
        "description": "The user that a server's call is about",
    });
    let parameters: Vec<Value> = in_path.chain(in_query).chain([user]).collect();
    let who = match row.who {
        Who::Any => "users and servers",
        Who::User => "users, and servers that name one",
        Who::Admin => "servers, and admins of the app",
        Who::Server => "servers",
    };
    let success = if matches!(row.does, Does::Files(_)) { "2XX" } else { "200" };
    let mut operation = json!({
        "summary": row.summary,
        "operationId": row.id,
        "tags": [row.path.split('/').rfind(|part| !part.starts_with('{')).unwrap_or_default()],
        "x-rate-limit": format!("{}: {} a minute", row.limit.name(), row.limit.per_minute_default()),
        "x-callers": who,
        "parameters": parameters,
        "responses": {
            success: {
                "description": "An object that holds `duration`",
                "content": { "application/json": { "schema": { "type": "object", "required": ["duration"] } } },
            },
            "default": {
                "description": "An error",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            },
        },
    });
    let body = match row.does {
        Does::Files(_) if row.method == axum::http::Method::POST => Some(json!({
            "required": true,
            "content": { "multipart/form-data": { "schema": {
                "type": "object", "required": ["file"], "properties": { "file": { "type": "string", "format": "binary" } },
            } } },
        })),
        Does::Files(_) => None,
        Does::Call(_) if row.body.is_empty() => None,
        Does::Call(_) => Some(json!({
            "required": row.body.iter().any(|field| field.required),
            "content": { "application/json": { "schema": object(row.body) } },
        })),
    };
    if let (Some(body), Value::Object(operation)) = (body, &mut operation) {
        operation.insert("requestBody".to_owned(), body);
    }
    operation
}

/// The schema of an object with these fields and no others.
fn object(fields: &[Field]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|field| (field.name.to_owned(), field.kind.schema())).collect();
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
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
            "reason": { "type": ["string", "null"] },
            "retry_after_ms": { "type": ["integer", "null"] },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_in_the_document_with_its_fields() {
        let document = document();
        let paths = document.get("paths").and_then(Value::as_object).expect("paths");
        let mut count = 0;
        for row in TABLE {
            let item = paths.get(&format!("{PREFIX}/{}", row.path)).expect("the path is there");
            let operation = item.get(row.method.as_str().to_lowercase()).expect("the method is there");
            assert_eq!(operation.get("operationId"), Some(&json!(row.id)));
            let schema = operation.pointer("/requestBody/content/application~1json/schema/properties");
            let fields = schema.and_then(Value::as_object).map_or(0, Map::len);
            assert_eq!(fields, row.body.len(), "{}", row.id);
            count += 1;
        }
        let listed: usize = paths.values().filter_map(Value::as_object).map(Map::len).sum();
        assert_eq!(listed, count, "and nothing else is");
    }
}
