export type {
  BooleanOption,
  CheckedOptions,
  ChoiceOption,
  GivenOptions,
  ListOption,
  NumberOption,
  OptionEntry,
  OptionSchema,
  TextOption,
} from "../base/options.js";
