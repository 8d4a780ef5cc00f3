//! JSON-RPC 2.0, as far as the Model Context Protocol uses it. Pure.

use serde_json::{Value, json};

pub(super) const PARSE_ERROR: i64 = -32700;
pub(super) const INVALID_REQUEST: i64 = -32600;
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
pub(super) const INVALID_PARAMS: i64 = -32602;
pub(super) const INTERNAL_ERROR: i64 = -32603;

/// A message of the client.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    Notification {
        method: String,
        params: Value,
    },
    /// To something that we never asked.
    Response,
}

/// A message that is none.
#[derive(Debug, PartialEq)]
pub(super) struct Problem {
    /// Null where it cannot be known.
    pub(super) id: Value,
    pub(super) message: &'static str,
}

impl Incoming {
    pub(super) fn read(mut message: Value) -> Result<Incoming, Problem> {
        let problem = |id: &Value, message| Err(Problem { id: id.clone(), message });
        if !message.is_object() {
            return problem(&Value::Null, "a message is a JSON object");
        }
        let id = message["id"].take();
        // The protocol allows no null where JSON-RPC would.
        let has_id = match &id {
            Value::Null => false,
            Value::String(_) => true,
            Value::Number(number) if number.is_i64() || number.is_u64() => true,
            _ => return problem(&Value::Null, "`id` must be a text or a whole number"),
        };
        if message["jsonrpc"] != "2.0" {
            return problem(&id, "`jsonrpc` must be \"2.0\"");
        }
        let params = message["params"].take();
        match message["method"].take() {
            Value::String(_) if !(params.is_object() || params.is_null()) => {
                problem(&id, "`params` must be an object")
            }
            Value::String(method) if has_id => Ok(Incoming::Request { id, method, params }),
            Value::String(method) => Ok(Incoming::Notification { method, params }),
            Value::Null if !message["result"].is_null() || !message["error"].is_null() => {
                Ok(Incoming::Response)
            }
            _ => problem(&id, "`method` is missing"),
        }
    }
}

/// The answer to a request that could be done.
pub(super) fn success(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// The answer to a request that could not.
pub(super) fn failure(id: &Value, code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}
