//! The benchmarks are in files beside src/.
