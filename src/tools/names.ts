/** Namespace of portable values with a meaning of their own: boot configuration where a store has no convention, readiness. */
export const OWN_NAMESPACE = "org.pvbus";
