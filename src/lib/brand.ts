declare const brand: unique symbol

/** A value that only its parser makes. */
export type Brand<T, Name extends string> = T & { readonly [brand]: { readonly [K in Name]: true } }
