;; A component that imports WASI, which no world has: it must be refused before it is compiled.
(component
  (import "wasi:cli/environment@0.2.0" (instance
    (export "get-environment" (func (result (list (tuple string string)))))))
)
