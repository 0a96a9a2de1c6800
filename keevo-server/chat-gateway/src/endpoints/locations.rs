//! Live locations: messages that say where their senders are, for a time.

use keevo_chat::{Capability, Coordinates};
use keevo_core::ErrorKind;
use serde_json::{Value, json};

use super::messages::visible;
use super::sending::{self, Sent};
use crate::call::Call;
use crate::error::{Answered, Refusal};
use crate::render;

const LIST_MAX: usize = 100;

/// The place that the body names, in whole units of 10⁻⁷ degrees.
fn place(call: &Call) -> Answered<Coordinates> {
    let units = |name: &str, max: f64| {
        let degrees = call.decimal(name).unwrap_or_default();
        if !(-max..=max).contains(&degrees) {
            return Err(Refusal::field(name, format!("is -{max} to {max} degrees")));
        }
        #[expect(clippy::cast_possible_truncation, reason = "180 degrees are 1.8e9 units, which an i32 holds")]
        let units = (degrees * render::UNITS).round() as i32;
        Ok(units)
    };
    Ok(Coordinates { latitude_e7: units("latitude", 90.0)?, longitude_e7: units("longitude", 180.0)? })
}

pub(crate) async fn share(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    let (at, for_ms) = (place(call)?, call.number("for_ms").unwrap_or_default());
    let new = match sending::judged_sharing(call, &channel, sending::message(call)?).await? {
        Sent::Not(answer) => return Ok(answer),
        Sent::Goes(new) => new,
    };
    let sent = call.chat().share_location(&channel, *new, at, for_ms).await?;
    let location = match call.chat().location(&channel, &sent.id).await {
        Ok(location) => render::location(&channel, &location),
        // Its time is over already.
        Err(error) if error.kind() == ErrorKind::NotFound => Value::Null,
        Err(error) => return Err(error.into()),
    };
    Ok(json!({ "message": render::message(&channel, &sent, None), "location": location }))
}

pub(crate) async fn update(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let location = call.chat().update_location(&channel, call.message(), call.user()?, place(call)?).await?;
    Ok(json!({ "location": render::location(&channel, &location) }))
}

pub(crate) async fn stop(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let location = call.chat().stop_location(&channel, call.message(), call.user()?).await?;
    Ok(json!({ "location": render::location(&channel, &location) }))
}

pub(crate) async fn get(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    visible(call, &channel).await?;
    let location = call.chat().location(&channel, call.message()).await?;
    Ok(json!({ "location": render::location(&channel, &location) }))
}

/// What is shared in the channel now.
pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let mut found = call.chat().locations(&channel, call.limit_or(LIST_MAX, LIST_MAX)?).await?;
    found.retain(|one| call.viewer().is_none_or(|user| one.is_visible_to(user)));
    Ok(json!({ "locations": found.iter().map(|one| render::location(&channel, one)).collect::<Vec<_>>() }))
}
