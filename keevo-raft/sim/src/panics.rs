//! Panics: tokio catches those of tasks, so a hook notes them for the run that they happened in.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static SEEN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// From now on panics on this thread are noted rather than printed.
pub(crate) fn watch_this_thread() {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let noted = SEEN.with_borrow_mut(|seen| seen.as_mut().map(|seen| seen.push(info.to_string())));
            if noted.is_none() {
                before(info);
            }
        }));
    });
    SEEN.set(Some(Vec::new()));
}

/// The first panic since the last call.
pub(crate) fn take() -> Option<String> {
    SEEN.with_borrow_mut(|seen| seen.as_mut().and_then(|seen| (!seen.is_empty()).then(|| seen.remove(0))))
}
