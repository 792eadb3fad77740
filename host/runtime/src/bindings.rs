//! The Rust bindings of `wit/`, which only this module generates.
//!
//! `shared` contains every host interface and the description of a plugin; the three worlds reuse its types, so that
//! a capability is implemented once.

/// Imports and types of all worlds, and `about`.
pub(crate) mod shared {
    wasmtime::component::bindgen!({
        inline: "
            package bellwether:runtime;

            world described {
                import bellwether:types/observations@0.1.0;
                import bellwether:types/failures@0.1.0;
                import bellwether:host/log@0.1.0;
                import bellwether:host/clock@0.1.0;
                import bellwether:host/metrics@0.1.0;
                import bellwether:host/facts@0.1.0;
                import bellwether:host/kv@0.1.0;
                import bellwether:host/secrets@0.1.0;
                import bellwether:host/http@0.1.0;
                export bellwether:types/about@0.1.0;
            }
        ",
        path: ["../../wit/types", "../../wit/host"],
        imports: {
            "bellwether:host/kv": async | trappable,
            "bellwether:host/http": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        with: { "bellwether:host/secrets.secret": crate::capability::secrets::Secret },
    });
}

/// The world of collectors.
pub(crate) mod collector {
    wasmtime::component::bindgen!({
        world: "bellwether:collector/collector",
        path: ["../../wit/types", "../../wit/host", "../../wit/collector"],
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "bellwether:host": super::shared::bellwether::host,
            "bellwether:types": super::shared::bellwether::types,
        },
    });
}

/// The world of health policies.
pub(crate) mod policy {
    wasmtime::component::bindgen!({
        world: "bellwether:policy/health-policy",
        path: ["../../wit/types", "../../wit/host", "../../wit/policy"],
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "bellwether:host": super::shared::bellwether::host,
            "bellwether:types": super::shared::bellwether::types,
        },
    });
}

/// The world of notifiers.
pub(crate) mod notifier {
    wasmtime::component::bindgen!({
        world: "bellwether:notifier/notifier",
        path: ["../../wit/types", "../../wit/host", "../../wit/notifier"],
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "bellwether:host": super::shared::bellwether::host,
            "bellwether:types": super::shared::bellwether::types,
        },
    });
}
