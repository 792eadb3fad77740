//! The bindings that `wit-bindgen` generates from `/wit`: shared interfaces, the description, and one export per
//! kind.
//!
//! Every interface is generated once, so that a `Failure` is the same type everywhere; `wit-component` combines the
//! parts that a plugin uses into one world. Each export has its own `export!` macro, so that a component contains
//! only the exports of its kind. Unused imports are dropped.

#![expect(
    clippy::pedantic,
    reason = "generated code is in the style of its generator"
)]

/// The host's interfaces and the types that all worlds share.
pub mod shared {
    wit_bindgen::generate!({
        path: ["../wit/types", "../wit/host"],
        inline: "
            package bellwether:sdk@0.1.0;

            world shared {
                import bellwether:types/observations@0.1.0;
                import bellwether:types/failures@0.1.0;
                import bellwether:host/log@0.1.0;
                import bellwether:host/clock@0.1.0;
                import bellwether:host/metrics@0.1.0;
                import bellwether:host/facts@0.1.0;
                import bellwether:host/kv@0.1.0;
                import bellwether:host/secrets@0.1.0;
                import bellwether:host/http@0.1.0;
            }
        ",
        world: "bellwether:sdk/shared",
        generate_all,
        generate_unused_types: true,
    });
}

/// The export of every plugin's description.
pub mod about {
    wit_bindgen::generate!({
        path: ["../wit/types"],
        inline: "
            package bellwether:sdk@0.1.0;

            world about {
                export bellwether:types/about@0.1.0;
            }
        ",
        world: "bellwether:sdk/about",
        with: {
            "bellwether:types/observations@0.1.0": crate::bindings::shared::bellwether::types::observations,
        },
        pub_export_macro: true,
        generate_all,
    });
}

/// The exports of a collector.
pub mod collector {
    wit_bindgen::generate!({
        path: ["../wit/types", "../wit/host", "../wit/collector"],
        inline: "
            package bellwether:sdk@0.1.0;

            world collector {
                export bellwether:collector/collect@0.1.0;
            }
        ",
        world: "bellwether:sdk/collector",
        with: {
            "bellwether:types/observations@0.1.0": crate::bindings::shared::bellwether::types::observations,
            "bellwether:types/failures@0.1.0": crate::bindings::shared::bellwether::types::failures,
        },
        pub_export_macro: true,
        generate_all,
    });
}

/// The exports of a health policy.
pub mod policy {
    wit_bindgen::generate!({
        path: ["../wit/types", "../wit/host", "../wit/policy"],
        inline: "
            package bellwether:sdk@0.1.0;

            world policy {
                export bellwether:policy/judge@0.1.0;
            }
        ",
        world: "bellwether:sdk/policy",
        with: {
            "bellwether:types/observations@0.1.0": crate::bindings::shared::bellwether::types::observations,
            "bellwether:types/failures@0.1.0": crate::bindings::shared::bellwether::types::failures,
        },
        pub_export_macro: true,
        generate_all,
    });
}

/// The exports of a notifier.
pub mod notifier {
    wit_bindgen::generate!({
        path: ["../wit/types", "../wit/host", "../wit/notifier"],
        inline: "
            package bellwether:sdk@0.1.0;

            world notifier {
                export bellwether:notifier/notify@0.1.0;
            }
        ",
        world: "bellwether:sdk/notifier",
        with: {
            "bellwether:types/observations@0.1.0": crate::bindings::shared::bellwether::types::observations,
            "bellwether:types/failures@0.1.0": crate::bindings::shared::bellwether::types::failures,
        },
        pub_export_macro: true,
        generate_all,
    });
}
