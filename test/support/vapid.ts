/** Keys of web push, for tests: as the environment has them. */
export const vapid = {
  VAPID_PUBLIC_KEY: 'BN6O4E0CP0FAzoDh_MDuq_sNgJS_tJblXYy6l39YujCT9xKP57AsyrQYyJN7ph_gvV2BhVZWO7L_Q4J3mRXA2Yc',
  VAPID_PRIVATE_KEY: 'yNBpIbaBjd8vw_f4CkN4vY_o1wT5T0kiPHgX4OCuHfk',
  VAPID_SUBJECT: 'mailto:ops@example.com',
}
