//! Events: every change of data, in order, kept.
