export type {
  BooleanOption,
  CheckedOptions,
  ChoiceOption,
  Defaulted,
  EntryOf,
  GivenOptions,
  ListOption,
  NumberOption,
  OptionEntry,
  OptionSchema,
  TextOption,
  ValueOf,
} from "../base/options.js";
