//! Users of the app.

use std::collections::BTreeSet;

use keevo_chat::{NewUser, User};
use serde_json::{Value, json};

use crate::call::{Call, Caller};
use crate::error::{Answered, Refusal, of_query};
use crate::field::{Field, Kind, check_object, may, must};
use crate::render;

/// The most users that one call puts.
const PUT_MAX: usize = 100;
const USER: &[Field] =
    &[must("id", Kind::Text), may("role", Kind::Text), may("teams", Kind::Texts), may("custom", Kind::Object)];

fn answer(user: &User) -> Value {
    json!({ "user": render::user(user) })
}

fn new_user(value: &Value) -> Answered<NewUser> {
    let object = value.as_object().ok_or_else(|| Refusal::field("users", "is a list of JSON objects"))?;
    check_object(object, USER)?;
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let teams = object.get("teams").and_then(Value::as_array).into_iter().flatten();
    let teams: BTreeSet<String> = teams.filter_map(Value::as_str).map(str::to_owned).collect();
    let custom = object.get("custom").filter(|custom| !custom.is_null()).map(Value::to_string);
    let user = NewUser::new(text("id").unwrap_or_default());
    let role = text("role").map_or_else(|| user.role.clone(), str::to_owned);
    Ok(NewUser { role, teams, custom, ..user })
}

pub(crate) async fn put(call: &Call) -> Answered<Value> {
    let wanted = call.list("users", PUT_MAX)?.iter().map(new_user).collect::<Answered<Vec<NewUser>>>()?;
    let mut users = Vec::with_capacity(wanted.len());
    for user in wanted {
        users.push(render::user(&call.chat().put_user(user).await?));
    }
    Ok(json!({ "users": users }))
}

pub(crate) async fn get(call: &Call) -> Answered<Value> {
    Ok(answer(&call.chat().user(call.found.part("user")).await?))
}

pub(crate) async fn query(call: &Call) -> Answered<Value> {
    let found = call.chat().query_users(&call.asked()).await.map_err(of_query)?;
    Ok(json!({ "users": found.items.iter().map(render::user).collect::<Vec<_>>(), "next": found.next }))
}

/// Changes custom data. A user changes its own, and is put by its first change.
pub(crate) async fn update(call: &Call) -> Answered<Value> {
    let id = call.found.part("user");
    if let Caller::User(user) = &call.caller
        && user != id
    {
        return Err(Refusal::denied("another-user", format!("user '{user}' changes its own data alone")));
    }
    let user = call.chat().update_user(id, call.object("custom"), &call.patch(), !call.is_server()).await?;
    Ok(answer(&user))
}

pub(crate) async fn deactivate(call: &Call) -> Answered<Value> {
    Ok(answer(&call.chat().deactivate_user(call.found.part("user"), call.truth("deactivated")).await?))
}

pub(crate) async fn guest(call: &Call) -> Answered<Value> {
    Ok(answer(&call.chat().create_guest(call.object("custom")).await?))
}
