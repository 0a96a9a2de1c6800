//! The code that the build script generates from the `.proto` files, a module a package.
//!
//! It is never edited, and follows its generator's style: the lints of the workspace do not apply.

macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        pub mod $name {
            /// Version 1.
            #[allow(missing_docs, reason = "generated: the comments of the .proto files are the documentation")]
            #[allow(unused_qualifications, reason = "generated")]
            #[allow(clippy::all, clippy::pedantic, reason = "generated")]
            #[allow(clippy::allow_attributes_without_reason, clippy::clone_on_ref_ptr, reason = "generated")]
            pub mod v1 {
                tonic::include_proto!($package);
            }
        }
    };
}

package!(
    /// Keys and values.
    kv,
    "keevo.kv.v1"
);
package!(
    /// Administration.
    admin,
    "keevo.admin.v1"
);
package!(
    /// Node to node.
    raft,
    "keevo.raft.v1"
);
package!(
    /// Activity feeds.
    feeds,
    "keevo.feeds.v1"
);
package!(
    /// Chat.
    chat,
    "keevo.chat.v1"
);
package!(
    /// The moderation sidecar.
    moderation,
    "keevo.moderation.v1"
);
